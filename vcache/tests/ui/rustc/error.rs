#![allow(unused_variables)]

#[vcache::module]
mod shop {
    use vcache::prelude::*;

    pub struct Refused;

    #[hotpath]
    async fn load(conn: &mut Connection, id: u64) -> Result<u64, Refused> {
        Err(Refused)
    }
}

fn main() {}
