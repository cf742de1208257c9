#![allow(unused_variables)]

#[vcache::module]
mod shop {
    use vcache::prelude::*;

    #[hotpath(signature = (key, value))]
    async fn too_many(conn: &mut Connection, key: &str) {}

    #[hotpath(signature = (key))]
    async fn too_few(conn: &mut Connection, key: &str, value: &str) {}

    #[hotpath(signature = (conn, key))]
    async fn connection(conn: &mut Connection, key: &str) {}

    #[hotpath(signature = (value, key = 1))]
    async fn order(conn: &mut Connection, key: u32, value: u32) {}
}

fn main() {}
