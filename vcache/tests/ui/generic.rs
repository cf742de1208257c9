#![allow(unused_variables)]

#[vcache::module]
mod shop {
    use vcache::prelude::*;

    #[hotpath]
    async fn typed<T: Send>(conn: &mut Connection, value: T) {}

    #[hotpath]
    async fn lifetime<'a>(conn: &'a mut Connection, value: &'a str) {}

    #[hotpath]
    async fn argument(conn: &mut Connection, value: impl Into<u64>) {}

    #[hotpath]
    async fn result(conn: &mut Connection) -> impl Into<u64> {
        1_u32
    }
}

fn main() {}
