//! The layout, in numbers. Modules that were compiled elsewhere rely on it, so a build that ends here has changed the contract.
//!
//! To append a field to [`Connection`], [`Command`] or [`Task`]: choose it so that zero means "as before", because that is what
//! it is for a side that does not have it; say in its docs from which version on it is there; raise `MINOR`; and put the new
//! size here. `FIRST` stays. To append a function to the [`Table`]: as an `Option`, with a feature bit if it cannot always be
//! offered. Nothing else may change: no other struct, no field's place, type or meaning.

#![cfg(target_pointer_width = "64")]

use std::mem::offset_of;

use super::table::{
    Command, Connection, Error, Header, Node, Reply, Status, Table, Task, Text, Waker, WakerVTable,
};

const _: () = {
    assert!(size_of::<Text>() == 16 && offset_of!(Text, len) == 8);
    assert!(size_of::<Status>() == 4);

    assert!(size_of::<Header>() == 48 && offset_of!(Header, magic) == 0 && offset_of!(Header, major) == 8);
    assert!(offset_of!(Header, minor) == 12 && offset_of!(Header, size) == 16);
    assert!(offset_of!(Header, features) == 24 && offset_of!(Header, version) == 32);

    assert!(
        Connection::FIRST == 48 && offset_of!(Connection, size) == 0 && offset_of!(Connection, handle) == 8
    );
    assert!(offset_of!(Connection, alias) == 16 && offset_of!(Connection, db) == 32);
    assert!(offset_of!(Connection, response_timeout) == 40 && offset_of!(Connection, key_head) == 48);

    assert!(Command::FIRST == 72 && offset_of!(Command, size) == 0 && offset_of!(Command, bytes) == 8);
    assert!(offset_of!(Command, len) == 16 && offset_of!(Command, replies) == 24);
    assert!(offset_of!(Command, flags) == 32 && offset_of!(Command, blocks) == 40);
    assert!(offset_of!(Command, timeout) == 48 && offset_of!(Command, done) == 56);
    assert!(offset_of!(Command, context) == 64);
    assert!(offset_of!(Command, patience) == 72 && offset_of!(Command, deadline) == 80);
    assert!(offset_of!(Command, slot) == 88);

    assert!(Task::FIRST == 48 && offset_of!(Task, size) == 0 && offset_of!(Task, steps) == 8);
    assert!(offset_of!(Task, reserved) == 12 && offset_of!(Task, data) == 16 && offset_of!(Task, poll) == 24);
    assert!(offset_of!(Task, finish) == 32 && offset_of!(Task, drop) == 40);

    let grown = if cfg!(feature = "__abi_longer") { 8 } else { 0 };
    assert!(size_of::<Connection>() == 64 + grown);
    assert!(size_of::<Command>() == 96 + grown);
    assert!(size_of::<Task>() == 48 + grown);

    assert!(size_of::<Reply>() == 16 && offset_of!(Reply, nodes) == 0 && offset_of!(Reply, count) == 8);
    assert!(size_of::<Node>() == 24 && offset_of!(Node, tag) == 0 && offset_of!(Node, reserved) == 4);
    assert!(offset_of!(Node, len) == 8 && offset_of!(Node, data) == 16);
    assert!(size_of::<Error>() == 64 && offset_of!(Error, kind) == 0 && offset_of!(Error, reserved) == 4);
    assert!(offset_of!(Error, code) == 8 && offset_of!(Error, message) == 24);
    assert!(offset_of!(Error, alias) == 40 && offset_of!(Error, exception) == 56);
    assert!(size_of::<Waker>() == 8 && size_of::<WakerVTable>() == 32);
    assert!(offset_of!(WakerVTable, clone) == 0 && offset_of!(WakerVTable, wake) == 8);
    assert!(offset_of!(WakerVTable, wake_by_ref) == 16 && offset_of!(WakerVTable, drop) == 24);

    assert!(
        offset_of!(Table, epoch) == 48 && offset_of!(Table, acquire) == 56 && offset_of!(Table, retain) == 64
    );
    assert!(
        offset_of!(Table, release) == 72
            && offset_of!(Table, submit) == 80
            && offset_of!(Table, cancel) == 88
    );
    assert!(offset_of!(Table, reply_free) == 96 && offset_of!(Table, error_free) == 104);
    assert!(offset_of!(Table, loop_acquire) == 112 && offset_of!(Table, loop_spawn) == 120);
    assert!(offset_of!(Table, loop_release) == 128 && offset_of!(Table, block_on) == 136);
    let entries = 12
        + if cfg!(feature = "__abi_older") { 0 } else { 3 }
        + if cfg!(feature = "__abi_newer") { 1 } else { 0 };
    assert!(size_of::<Table>() == 48 + 8 * entries);
};
