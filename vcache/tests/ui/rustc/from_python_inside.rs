#![allow(unused_variables)]

#[vcache::module]
mod shop {
    use vcache::prelude::*;

    pub struct Order;

    #[hotpath]
    async fn store(conn: &mut Connection, orders: Vec<Order>) {}
}

fn main() {}
