//! The commands that hot paths are mostly made of, as methods of [`Connection`] itself. They take and give what redis-rs's
//! [`AsyncCommands`](redis::AsyncCommands) do, which has all the others, but without its boxed futures
//! and its buffers.

use std::future::{Future, poll_fn};
use std::io;

use redis::{
    FromRedisValue, NumericBehavior, RedisError, RedisWrite, ToRedisArgs, ToSingleRedisArg, from_redis_value,
};

use super::Connection;
use super::command::Packet;
use super::reply_future::State;
use crate::error::{Error, Result};

macro_rules! commands {
    ($(
        $(#[$docs:meta])*
        $name:ident<$($kind:ident: $bound:ident),+>($($argument:ident: $type:ty),+) = $command:expr;
    )+) => {
        /// # Commands
        ///
        /// All others are in [`AsyncCommands`](redis::AsyncCommands). Each fails with a connection's error, with
        /// [`ErrorKind::Response`](crate::ErrorKind::Response) if the server says no, and with
        /// [`ErrorKind::Value`](crate::ErrorKind::Value) if its reply is not of the type asked for.
        impl Connection {$(
            $(#[$docs])*
            pub fn $name<$($kind: $bound,)+ RV: FromRedisValue>(
                &mut self, $($argument: $type),+
            ) -> impl Future<Output = Result<RV>> + Send {
                let arguments = 0 $(+ $argument.num_of_args())+;
                let mut packet = Packet::command($command, arguments);
                $($argument.write_redis_args(&mut packet);)+
                self.typed(packet)
            }
        )+}
    };
}

commands! {
    /// `GET`: what stands under a key.
    get<K: ToSingleRedisArg>(key: K) = "GET";
    /// `MGET`: what stands under each of the keys.
    mget<K: ToRedisArgs>(keys: K) = "MGET";
    /// `SET`: puts a value under a key, for good.
    set<K: ToSingleRedisArg, V: ToSingleRedisArg>(key: K, value: V) = "SET";
    /// `DEL`: deletes keys; how many there were.
    del<K: ToRedisArgs>(keys: K) = "DEL";
    /// `EXISTS`: how many of the keys there are.
    exists<K: ToRedisArgs>(keys: K) = "EXISTS";
    /// `EXPIRE`: has a key end in so many seconds; whether there is one.
    expire<K: ToSingleRedisArg>(key: K, seconds: i64) = "EXPIRE";
    /// `DECRBY`: takes a number off a counter; what is left.
    decr<K: ToSingleRedisArg, V: ToSingleRedisArg>(key: K, delta: V) = "DECRBY";
    /// `HGET`: a field of a hash.
    hget<K: ToSingleRedisArg, F: ToSingleRedisArg>(key: K, field: F) = "HGET";
    /// `HSET`: sets a field of a hash; 1 if it is new.
    hset<K: ToSingleRedisArg, F: ToSingleRedisArg, V: ToSingleRedisArg>(key: K, field: F, value: V) = "HSET";
}

impl Connection {
    /// `SETEX`: puts a value under a key, for so many seconds.
    pub fn set_ex<K: ToSingleRedisArg, V: ToSingleRedisArg, RV: FromRedisValue>(
        &mut self,
        key: K,
        value: V,
        seconds: u64,
    ) -> impl Future<Output = Result<RV>> + Send {
        let mut packet = Packet::command("SETEX", 3);
        key.write_redis_args(&mut packet);
        seconds.write_redis_args(&mut packet);
        value.write_redis_args(&mut packet);
        self.typed(packet)
    }

    /// `INCRBY`, or `INCRBYFLOAT` for a delta that is a float: adds to a counter; the sum.
    pub fn incr<K: ToSingleRedisArg, V: ToSingleRedisArg, RV: FromRedisValue>(
        &mut self,
        key: K,
        delta: V,
    ) -> impl Future<Output = Result<RV>> + Send {
        let float = delta.describe_numeric_behavior() == NumericBehavior::NumberIsFloat;
        let mut packet = Packet::command(if float { "INCRBYFLOAT" } else { "INCRBY" }, 2);
        key.write_redis_args(&mut packet);
        delta.write_redis_args(&mut packet);
        self.typed(packet)
    }

    fn typed<RV: FromRedisValue>(&mut self, packet: Packet) -> impl Future<Output = Result<RV>> + Send {
        let connection = &*self;
        let mut call = State::New(packet);
        async move {
            let reply = poll_fn(|cx| call.poll(connection, cx)).await?;
            from_redis_value(connection.check(reply)?)
                .map_err(|error| Error::from(RedisError::from(error)).with_alias(connection.alias()))
        }
    }
}

impl RedisWrite for Packet {
    fn write_arg(&mut self, argument: &[u8]) {
        self.arg(argument);
    }

    fn writer_for_next_arg(&mut self) -> impl io::Write + '_ {
        NextArgument { packet: self, bytes: Vec::new() }
    }
}

/// An argument that is written piece by piece: its length stands before it, so it is kept until it is whole.
struct NextArgument<'a> {
    packet: &'a mut Packet,
    bytes: Vec<u8>,
}

impl io::Write for NextArgument<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for NextArgument<'_> {
    fn drop(&mut self) {
        self.packet.arg(&self.bytes);
    }
}
