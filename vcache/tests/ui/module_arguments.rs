#![allow(unused_variables)]

#[vcache::module(name = "shop")]
mod shop {}

fn main() {}
