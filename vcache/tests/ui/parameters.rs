#![allow(unused_variables)]

#[vcache::module]
mod shop {
    use vcache::prelude::*;

    use vcache::pyo3::prelude::*;

    #[hotpath]
    async fn python(conn: &mut Connection, py: Python<'_>) {}

    #[hotpath]
    async fn object(conn: &mut Connection, value: Py<PyAny>) {}

    #[hotpath]
    async fn nested(conn: &mut Connection, value: Option<Vec<Bound<'_, PyAny>>>) {}

    #[hotpath]
    async fn borrowed(conn: &mut Connection, value: &u64) {}

    #[hotpath]
    async fn changed(conn: &mut Connection, value: &mut str) {}

    #[hotpath]
    async fn forever(conn: &mut Connection, value: &'static str) {}

    #[hotpath]
    async fn pattern(conn: &mut Connection, (a, b): (u32, u32)) {}

    #[hotpath]
    async fn ignored(conn: &mut Connection, _: u32) {}

    #[hotpath]
    async fn keyword(conn: &mut Connection, from: u32) {}
}

fn main() {}
