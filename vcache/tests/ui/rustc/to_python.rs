#![allow(unused_variables)]

#[vcache::module]
mod shop {
    use vcache::prelude::*;

    pub struct Order;

    #[hotpath]
    async fn load(conn: &mut Connection, id: u64) -> vcache::Result<Order> {
        Ok(Order)
    }
}

fn main() {}
