#![allow(unused_variables)]

#[vcache::module]
mod shop {
    use vcache::prelude::*;

    #[hotpath]
    async fn load(conn: &mut Connection) -> ScanResult {
        ScanResult
    }

    pub struct ScanResult;
}

fn main() {}
