#![allow(unused_variables)]

#[vcache::module]
mod shop {
    use vcache::prelude::*;

    #[hotpath(nam = "x")]
    async fn unknown(conn: &mut Connection) {}

    #[hotpath(timeout = "1s", timeout = "2s")]
    async fn twice(conn: &mut Connection) {}

    #[hotpath(only = "both")]
    async fn only(conn: &mut Connection) {}

    #[hotpath(cancel = "never")]
    async fn cancel(conn: &mut Connection) {}

    #[hotpath(cache = "")]
    async fn cache(conn: &mut Connection) {}

    #[hotpath(cache)]
    async fn no_value(conn: &mut Connection) {}

    #[hotpath(name = spend)]
    async fn not_a_text(conn: &mut Connection) {}

    #[hotpath(spawn = true)]
    async fn spawn(conn: &mut Connection) {}

    #[hotpath]
    #[hotpath]
    async fn marked_twice(conn: &mut Connection) {}

    #[hotpath]
    #[pyo3(name = "x")]
    async fn of_pyo3(conn: &mut Connection) {}

    #[hotpath]
    async unsafe fn dangerous(conn: &mut Connection) {}
}

fn main() {}
