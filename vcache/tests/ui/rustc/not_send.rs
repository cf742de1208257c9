#![allow(unused_variables)]

#[vcache::module]
mod shop {
    use vcache::prelude::*;

    use std::rc::Rc;

    #[hotpath]
    async fn count(conn: &mut Connection, key: &str) -> vcache::Result<i64> {
        let shared = Rc::new(1);
        let count: i64 = conn.incr(key, *shared).await?;
        Ok(count + *shared)
    }
}

fn main() {}
