#![allow(unused_variables)]

#[vcache::module]
mod shop {
    use vcache::prelude::*;

    #[hotpath(name = "get-it")]
    async fn hyphen(conn: &mut Connection) {}

    #[hotpath(aname = "2nd")]
    async fn digit(conn: &mut Connection) {}

    #[hotpath(name = "import")]
    async fn keyword(conn: &mut Connection) {}

    #[hotpath]
    async fn lambda(conn: &mut Connection) {}

    #[hotpath]
    async fn wait(conn: &mut Connection) {}

    #[hotpath(only = "sync", aname = "spend_soon")]
    async fn no_async_form(conn: &mut Connection) {}

    #[hotpath(only = "sync", cancel = "finish")]
    async fn nothing_to_cancel(conn: &mut Connection) {}

    #[hotpath(name = "spend_now", only = "async")]
    async fn no_blocking_form(conn: &mut Connection) {}

    #[hotpath(name = "same", aname = "same")]
    async fn same(conn: &mut Connection) {}

    #[hotpath]
    async fn get(conn: &mut Connection) {}

    #[hotpath(only = "sync")]
    async fn aget(conn: &mut Connection) {}
}

fn main() {}
