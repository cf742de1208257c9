#![allow(unused_variables)]

#[vcache::module]
mod shop {
    use vcache::prelude::*;

    #[hotpath]
    async fn load(conn: &mut Connection) -> ScanResult<u8> {
        ScanResult(1)
    }

    pub struct ScanResult<T>(T);
}

fn main() {}
