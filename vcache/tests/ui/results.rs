#![allow(unused_variables)]

#[vcache::module]
mod shop {
    use vcache::prelude::*;

    use vcache::pyo3::prelude::*;

    #[hotpath]
    async fn borrowed(conn: &mut Connection) -> vcache::Result<&str> {
        Ok(conn.alias())
    }

    #[hotpath]
    async fn bound(conn: &mut Connection) -> PyResult<Bound<'static, PyAny>> {
        unimplemented!()
    }
}

fn main() {}
