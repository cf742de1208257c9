#![allow(unused_variables)]

use vcache::prelude::*;

#[hotpath]
async fn spend(conn: &mut Connection, cost: u32) {}

#[vcache::module]
mod shop {
    mod inner {
        use vcache::prelude::*;

        #[hotpath]
        async fn spend(conn: &mut Connection, cost: u32) {}
    }
}

fn main() {}
