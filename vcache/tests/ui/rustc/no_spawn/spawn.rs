#![allow(unused_variables)]

#[vcache::module]
mod shop {
    use vcache::prelude::*;

    #[hotpath(spawn)]
    async fn compute(conn: &mut Connection, rounds: u64) -> u64 {
        rounds
    }
}

fn main() {}
