#![allow(unused_variables)]

#[vcache::module]
mod shop {
    use vcache::prelude::*;

    #[hotpath]
    fn spend(conn: &mut Connection, cost: u32) {}
}

fn main() {}
