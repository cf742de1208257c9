#![allow(unused_variables)]

#[vcache::module]
mod shop {
    use vcache::prelude::*;

    #[hotpath(timeout = "soon")]
    async fn word(conn: &mut Connection) {}

    #[hotpath(timeout = "50")]
    async fn no_unit(conn: &mut Connection) {}

    #[hotpath(timeout = "1.5s")]
    async fn fraction(conn: &mut Connection) {}

    #[hotpath(timeout = "0ms")]
    async fn nothing(conn: &mut Connection) {}

    #[hotpath(timeout = 50)]
    async fn number(conn: &mut Connection) {}
}

fn main() {}
