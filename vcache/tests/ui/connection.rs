#![allow(unused_variables)]

#[vcache::module]
mod shop {
    use vcache::prelude::*;

    #[hotpath]
    async fn none() {}

    #[hotpath]
    async fn another(key: &str, conn: &mut Connection) {}

    #[hotpath]
    async fn shared(conn: &Connection) {}

    #[hotpath]
    async fn method(&self, conn: &mut Connection) {}
}

fn main() {}
