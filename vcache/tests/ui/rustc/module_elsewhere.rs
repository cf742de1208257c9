#![allow(unused_variables)]

#[vcache::module]
mod shop;

fn main() {}
