//! The table: a row for each command of Valkey 9, sorted by name. Tests compare it with a server's own.

use super::keys::Keys;
use super::{Again, Blocks, Options, Policy, Row, Taken};

const OWN_CONNECTION: &str = "it needs a separate connection, opened with a client library";
pub(super) const WHOLE: &str =
    "use a script, or a transaction that is sent whole, in Rust by redis::pipe().atomic()";
const LOOKS_AFTER_ITSELF: &str = "the connection looks after itself";
const HOLDS_UP: &str = "it waits for what its own connection wrote, and would hold up every other caller; open one with a client library";
const ANOTHER_ALIAS: &str = "configure another alias with that database number";
const FOR_NODES: &str = "it is what servers say to each other";
const OF_HTTP: &str = "it is how HTTP requests begin, and the server closes a connection that sends it";
const CLIENT_NAME: &str = "set OPTIONS[\"CLIENT_NAME\"], or client_name in the URL";
const CHANGES: &str =
    "it would change the connection for every other caller; open a separate one with a client library";
const MAY_CHANGE: &str =
    "it may change the connection for every other caller; open a separate one with a client library";
const STOPS: &str =
    "it would stop the connection for every other caller; open a separate one with a client library";

const NONE: Keys = Keys::None;
const FIRST: Keys = range(1, 1);
const SECOND: Keys = range(2, 2);
const TWO: Keys = range(1, 2);
const ALL: Keys = range(1, -1);
const ALL_BUT_LAST: Keys = range(1, -2);
const FROM_SECOND: Keys = range(2, -1);
const PAIRS: Keys = Keys::Range { first: 1, last: -1, step: 2 };
const COUNTED_FIRST: Keys = Keys::Counted { at: 1, step: 1 };
const COUNTED_PAIRS: Keys = Keys::Counted { at: 1, step: 2 };
const COUNTED_SECOND: Keys = Keys::Counted { at: 2, step: 1 };

/// With these, `SET` does the same twice. A condition, or a question for the old value, is answered otherwise then.
const SET: Options = &[("EX", 1), ("EXAT", 1), ("KEEPTTL", 0), ("PX", 1), ("PXAT", 1)];
const SORT: Options = &[("BY", 1), ("GET", 1), ("LIMIT", 2), ("STORE", 1)];
const GEORADIUS: Options = &[("STORE", 1), ("STOREDIST", 1)];

/// It writes no key, or any, and must not be repeated.
const PLAIN: Policy = policy(Keys::None, false);
/// It only answers a question about the server.
const INFORMS: Policy = policy(Keys::None, false).again(Again::Always);

pub(super) static COMMANDS: &[Row] = &[
    ("ACL", PLAIN),
    ("APPEND", writes(FIRST)),
    ("ASKING", refused(LOOKS_AFTER_ITSELF)),
    ("AUTH", refused(LOOKS_AFTER_ITSELF)),
    ("BGREWRITEAOF", PLAIN),
    ("BGSAVE", PLAIN),
    ("BITCOUNT", reads(FIRST)),
    ("BITFIELD", writes(FIRST)),
    ("BITFIELD_RO", reads(FIRST)),
    ("BITOP", writes(FROM_SECOND)),
    ("BITPOS", reads(FIRST)),
    ("BLMOVE", writes(TWO).blocks(Blocks::Last)),
    ("BLMPOP", writes(COUNTED_SECOND).blocks(Blocks::First)),
    ("BLPOP", writes(ALL_BUT_LAST).blocks(Blocks::Last)),
    ("BRPOP", writes(ALL_BUT_LAST).blocks(Blocks::Last)),
    ("BRPOPLPUSH", writes(TWO).blocks(Blocks::Last)),
    ("BZMPOP", writes(COUNTED_SECOND).blocks(Blocks::First)),
    ("BZPOPMAX", writes(ALL_BUT_LAST).blocks(Blocks::Last)),
    ("BZPOPMIN", writes(ALL_BUT_LAST).blocks(Blocks::Last)),
    ("CLIENT", by(CLIENT, &refused(MAY_CHANGE))),
    ("CLUSTER", by(CLUSTER, &PLAIN)),
    ("CLUSTERSCAN", reads(Keys::Unknown)),
    ("COMMAND", INFORMS),
    ("COMMANDLOG", PLAIN),
    ("CONFIG", by(CONFIG, &PLAIN)),
    ("COPY", writes(TWO)),
    ("DBSIZE", reads(NONE)),
    ("DEBUG", PLAIN),
    ("DECR", writes(FIRST)),
    ("DECRBY", writes(FIRST)),
    ("DEL", writes(ALL)),
    ("DELIFEQ", writes(FIRST)),
    ("DISCARD", refused(WHOLE)),
    ("DUMP", reads(FIRST)),
    ("ECHO", INFORMS),
    ("EVAL", writes(COUNTED_SECOND)),
    ("EVALSHA", writes(COUNTED_SECOND)),
    ("EVALSHA_RO", reads(COUNTED_SECOND)),
    ("EVAL_RO", reads(COUNTED_SECOND)),
    ("EXEC", Policy { taken: Taken::Ends, ..PLAIN }),
    ("EXISTS", reads(ALL)),
    ("EXPIRE", writes(FIRST)),
    ("EXPIREAT", writes(FIRST)),
    ("EXPIRETIME", reads(FIRST)),
    ("FAILOVER", PLAIN),
    ("FCALL", writes(COUNTED_SECOND)),
    ("FCALL_RO", reads(COUNTED_SECOND)),
    ("FLUSHALL", PLAIN),
    ("FLUSHDB", PLAIN),
    ("FUNCTION", by(FUNCTION, &PLAIN)),
    ("GEOADD", writes(FIRST)),
    ("GEODIST", reads(FIRST)),
    ("GEOHASH", reads(FIRST)),
    ("GEOPOS", reads(FIRST)),
    ("GEORADIUS", writes(and_stored(6, GEORADIUS))),
    ("GEORADIUSBYMEMBER", writes(and_stored(5, GEORADIUS))),
    ("GEORADIUSBYMEMBER_RO", reads(FIRST)),
    ("GEORADIUS_RO", reads(FIRST)),
    ("GEOSEARCH", reads(FIRST)),
    ("GEOSEARCHSTORE", writes(TWO)),
    ("GET", reads(FIRST)),
    ("GETBIT", reads(FIRST)),
    ("GETDEL", writes(FIRST)),
    ("GETEX", writes(FIRST)),
    ("GETRANGE", reads(FIRST)),
    ("GETSET", writes(FIRST)),
    ("HDEL", writes(FIRST)),
    ("HELLO", refused(LOOKS_AFTER_ITSELF)),
    ("HEXISTS", reads(FIRST)),
    ("HEXPIRE", writes(FIRST)),
    ("HEXPIREAT", writes(FIRST)),
    ("HEXPIRETIME", reads(FIRST)),
    ("HGET", reads(FIRST)),
    ("HGETALL", reads(FIRST)),
    ("HGETDEL", writes(FIRST)),
    ("HGETEX", writes(FIRST)),
    ("HINCRBY", writes(FIRST)),
    ("HINCRBYFLOAT", writes(FIRST)),
    ("HKEYS", reads(FIRST)),
    ("HLEN", reads(FIRST)),
    ("HMGET", reads(FIRST)),
    ("HMSET", writes(FIRST)),
    ("HOST:", refused(OF_HTTP)),
    ("HPERSIST", writes(FIRST)),
    ("HPEXPIRE", writes(FIRST)),
    ("HPEXPIREAT", writes(FIRST)),
    ("HPEXPIRETIME", reads(FIRST)),
    ("HPTTL", reads(FIRST)),
    ("HRANDFIELD", reads(FIRST)),
    ("HSCAN", reads(FIRST)),
    ("HSET", writes(FIRST)),
    ("HSETEX", writes(FIRST)),
    ("HSETNX", writes(FIRST)),
    ("HSTRLEN", reads(FIRST)),
    ("HTTL", reads(FIRST)),
    ("HVALS", reads(FIRST)),
    ("INCR", writes(FIRST)),
    ("INCRBY", writes(FIRST)),
    ("INCRBYFLOAT", writes(FIRST)),
    ("INFO", INFORMS),
    ("KEYS", reads(NONE)),
    ("LASTSAVE", INFORMS),
    ("LATENCY", PLAIN),
    ("LCS", reads(TWO)),
    ("LINDEX", reads(FIRST)),
    ("LINSERT", writes(FIRST)),
    ("LLEN", reads(FIRST)),
    ("LMOVE", writes(TWO)),
    ("LMPOP", writes(COUNTED_FIRST)),
    ("LOLWUT", reads(NONE)),
    ("LPOP", writes(FIRST)),
    ("LPOS", reads(FIRST)),
    ("LPUSH", writes(FIRST)),
    ("LPUSHX", writes(FIRST)),
    ("LRANGE", reads(FIRST)),
    ("LREM", writes(FIRST)),
    ("LSET", writes(FIRST)),
    ("LTRIM", writes(FIRST)),
    ("MEMORY", by(MEMORY, &PLAIN)),
    ("MGET", reads(ALL)),
    ("MIGRATE", writes(Keys::Unknown)),
    ("MODULE", PLAIN),
    ("MONITOR", refused(OWN_CONNECTION)),
    ("MOVE", writes(FIRST)),
    ("MSET", writes(PAIRS).again(Again::Always)),
    ("MSETEX", writes(COUNTED_PAIRS)),
    ("MSETNX", writes(PAIRS)),
    ("MULTI", Policy { taken: Taken::Begins, ..PLAIN }),
    ("OBJECT", by(OBJECT, &INFORMS)),
    ("PERSIST", writes(FIRST)),
    ("PEXPIRE", writes(FIRST)),
    ("PEXPIREAT", writes(FIRST)),
    ("PEXPIRETIME", reads(FIRST)),
    ("PFADD", writes(FIRST)),
    ("PFCOUNT", reads(ALL)),
    ("PFDEBUG", writes(SECOND)),
    ("PFMERGE", writes(ALL)),
    ("PFSELFTEST", PLAIN),
    ("PING", INFORMS),
    ("POST", refused(OF_HTTP)),
    ("PSETEX", writes(FIRST).again(Again::Always)),
    ("PSUBSCRIBE", refused(OWN_CONNECTION)),
    ("PSYNC", refused(OWN_CONNECTION)),
    ("PTTL", reads(FIRST)),
    ("PUBLISH", PLAIN),
    ("PUBSUB", INFORMS),
    ("PUNSUBSCRIBE", refused(OWN_CONNECTION)),
    ("QUIT", refused(LOOKS_AFTER_ITSELF)),
    ("RANDOMKEY", reads(NONE)),
    ("READONLY", refused(LOOKS_AFTER_ITSELF)),
    ("READWRITE", refused(LOOKS_AFTER_ITSELF)),
    ("RENAME", writes(TWO)),
    ("RENAMENX", writes(TWO)),
    ("REPLCONF", refused(FOR_NODES)),
    ("REPLICAOF", PLAIN),
    ("RESET", refused(LOOKS_AFTER_ITSELF)),
    ("RESTORE", writes(FIRST)),
    ("RESTORE-ASKING", writes(FIRST)),
    ("ROLE", INFORMS),
    ("RPOP", writes(FIRST)),
    ("RPOPLPUSH", writes(TWO)),
    ("RPUSH", writes(FIRST)),
    ("RPUSHX", writes(FIRST)),
    ("SADD", writes(FIRST)),
    ("SAVE", PLAIN),
    ("SCAN", reads(NONE)),
    ("SCARD", reads(FIRST)),
    ("SCRIPT", by(SCRIPT, &PLAIN)),
    ("SDIFF", reads(ALL)),
    ("SDIFFSTORE", writes(ALL)),
    ("SELECT", refused(ANOTHER_ALIAS)),
    ("SET", writes(FIRST).again(Again::With(SET))),
    ("SETBIT", writes(FIRST)),
    ("SETEX", writes(FIRST).again(Again::Always)),
    ("SETNX", writes(FIRST)),
    ("SETRANGE", writes(FIRST)),
    ("SHUTDOWN", PLAIN),
    ("SINTER", reads(ALL)),
    ("SINTERCARD", reads(COUNTED_FIRST)),
    ("SINTERSTORE", writes(ALL)),
    ("SISMEMBER", reads(FIRST)),
    ("SLAVEOF", PLAIN),
    ("SLOWLOG", PLAIN),
    ("SMEMBERS", reads(FIRST)),
    ("SMISMEMBER", reads(FIRST)),
    ("SMOVE", writes(TWO)),
    ("SORT", writes(and_stored(2, SORT))),
    ("SORT_RO", reads(FIRST)),
    ("SPOP", writes(FIRST)),
    ("SPUBLISH", writes(FIRST)),
    ("SRANDMEMBER", reads(FIRST)),
    ("SREM", writes(FIRST)),
    ("SSCAN", reads(FIRST)),
    ("SSUBSCRIBE", refused(OWN_CONNECTION)),
    ("STRLEN", reads(FIRST)),
    ("SUBSCRIBE", refused(OWN_CONNECTION)),
    ("SUBSTR", reads(FIRST)),
    ("SUNION", reads(ALL)),
    ("SUNIONSTORE", writes(ALL)),
    ("SUNSUBSCRIBE", refused(OWN_CONNECTION)),
    ("SWAPDB", PLAIN),
    ("SYNC", refused(OWN_CONNECTION)),
    ("TIME", INFORMS),
    ("TOUCH", reads(ALL)),
    ("TTL", reads(FIRST)),
    ("TYPE", reads(FIRST)),
    ("UNLINK", writes(ALL)),
    ("UNSUBSCRIBE", refused(OWN_CONNECTION)),
    ("UNWATCH", refused(WHOLE)),
    ("WAIT", refused(HOLDS_UP)),
    ("WAITAOF", refused(HOLDS_UP)),
    ("WATCH", refused(WHOLE)),
    ("XACK", writes(FIRST)),
    ("XADD", writes(FIRST)),
    ("XAUTOCLAIM", writes(FIRST)),
    ("XCLAIM", writes(FIRST)),
    ("XDEL", writes(FIRST)),
    ("XGROUP", by(XGROUP, &PLAIN)),
    ("XINFO", by(XINFO, &INFORMS)),
    ("XLEN", reads(FIRST)),
    ("XPENDING", reads(FIRST)),
    ("XRANGE", reads(FIRST)),
    ("XREAD", reads(Keys::Streams).blocks(Blocks::Option)),
    ("XREADGROUP", writes(Keys::Streams).blocks(Blocks::Option)),
    ("XREVRANGE", reads(FIRST)),
    ("XSETID", writes(FIRST)),
    ("XTRIM", writes(FIRST)),
    ("ZADD", writes(FIRST)),
    ("ZCARD", reads(FIRST)),
    ("ZCOUNT", reads(FIRST)),
    ("ZDIFF", reads(COUNTED_FIRST)),
    ("ZDIFFSTORE", writes(Keys::AndCounted)),
    ("ZINCRBY", writes(FIRST)),
    ("ZINTER", reads(COUNTED_FIRST)),
    ("ZINTERCARD", reads(COUNTED_FIRST)),
    ("ZINTERSTORE", writes(Keys::AndCounted)),
    ("ZLEXCOUNT", reads(FIRST)),
    ("ZMPOP", writes(COUNTED_FIRST)),
    ("ZMSCORE", reads(FIRST)),
    ("ZPOPMAX", writes(FIRST)),
    ("ZPOPMIN", writes(FIRST)),
    ("ZRANDMEMBER", reads(FIRST)),
    ("ZRANGE", reads(FIRST)),
    ("ZRANGEBYLEX", reads(FIRST)),
    ("ZRANGEBYSCORE", reads(FIRST)),
    ("ZRANGESTORE", writes(TWO)),
    ("ZRANK", reads(FIRST)),
    ("ZREM", writes(FIRST)),
    ("ZREMRANGEBYLEX", writes(FIRST)),
    ("ZREMRANGEBYRANK", writes(FIRST)),
    ("ZREMRANGEBYSCORE", writes(FIRST)),
    ("ZREVRANGE", reads(FIRST)),
    ("ZREVRANGEBYLEX", reads(FIRST)),
    ("ZREVRANGEBYSCORE", reads(FIRST)),
    ("ZREVRANK", reads(FIRST)),
    ("ZSCAN", reads(FIRST)),
    ("ZSCORE", reads(FIRST)),
    ("ZUNION", reads(COUNTED_FIRST)),
    ("ZUNIONSTORE", writes(Keys::AndCounted)),
];

const CLIENT: &[Row] = &[
    ("CACHING", refused(CHANGES)),
    ("CAPA", refused(CHANGES)),
    ("GETNAME", INFORMS),
    ("GETREDIR", INFORMS),
    ("HELP", INFORMS),
    ("ID", INFORMS),
    ("IMPORT-SOURCE", refused(CHANGES)),
    ("INFO", INFORMS),
    ("KILL", PLAIN),
    ("LIST", INFORMS),
    ("NO-EVICT", refused(CHANGES)),
    ("NO-TOUCH", refused(CHANGES)),
    ("PAUSE", PLAIN),
    ("REPLY", refused(CHANGES)),
    ("SETINFO", refused(CHANGES)),
    ("SETNAME", refused(CLIENT_NAME)),
    ("TRACKING", refused(CHANGES)),
    ("TRACKINGINFO", INFORMS),
    ("UNBLOCK", PLAIN),
    ("UNPAUSE", PLAIN),
];

const CLUSTER: &[Row] = &[
    ("COUNTKEYSINSLOT", INFORMS),
    ("GETKEYSINSLOT", INFORMS),
    ("INFO", INFORMS),
    ("KEYSLOT", INFORMS),
    ("LINKS", INFORMS),
    ("MYID", INFORMS),
    ("MYSHARDID", INFORMS),
    ("NODES", INFORMS),
    ("REPLICAS", INFORMS),
    ("SHARDS", INFORMS),
    ("SLOT-STATS", INFORMS),
    ("SLOTS", INFORMS),
    ("SYNCSLOTS", refused(FOR_NODES)),
];

const CONFIG: &[Row] = &[("GET", INFORMS)];

const FUNCTION: &[Row] = &[("DUMP", INFORMS), ("LIST", INFORMS), ("STATS", INFORMS)];

const MEMORY: &[Row] = &[("DOCTOR", INFORMS), ("STATS", INFORMS), ("USAGE", reads(SECOND))];

const OBJECT: &[Row] = &[
    ("ENCODING", reads(SECOND)),
    ("FREQ", reads(SECOND)),
    ("IDLETIME", reads(SECOND)),
    ("REFCOUNT", reads(SECOND)),
];

const SCRIPT: &[Row] =
    &[("DEBUG", refused(STOPS)), ("EXISTS", INFORMS), ("LOAD", INFORMS), ("SHOW", INFORMS)];

const XGROUP: &[Row] = &[
    ("CREATE", writes(SECOND)),
    ("CREATECONSUMER", writes(SECOND)),
    ("DELCONSUMER", writes(SECOND)),
    ("DESTROY", writes(SECOND)),
    ("SETID", writes(SECOND)),
];

const XINFO: &[Row] = &[("CONSUMERS", reads(SECOND)), ("GROUPS", reads(SECOND)), ("STREAM", reads(SECOND))];

const fn range(first: usize, last: isize) -> Keys {
    Keys::Range { first, last, step: 1 }
}

/// Options are looked for from a position on.
const fn and_stored(from: usize, options: Options) -> Keys {
    Keys::AndStored { from, options }
}

const fn policy(keys: Keys, reads: bool) -> Policy {
    Policy { taken: Taken::Yes, again: Again::Never, blocks: Blocks::Never, keys, reads }
}

/// It changes nothing, so it may be repeated.
const fn reads(keys: Keys) -> Policy {
    policy(keys, true).again(Again::Always)
}

/// It may change something, and must not be repeated unless its row says so.
const fn writes(keys: Keys) -> Policy {
    policy(keys, false)
}

const fn refused(instead: &'static str) -> Policy {
    Policy { taken: Taken::No(instead), ..PLAIN }
}

/// What its subcommands are; the second is for all others.
const fn by(known: &'static [Row], others: &'static Policy) -> Policy {
    Policy { taken: Taken::By(known, others), ..PLAIN }
}

impl Policy {
    const fn again(self, again: Again) -> Self {
        Self { again, ..self }
    }

    const fn blocks(self, blocks: Blocks) -> Self {
        Self { blocks, ..self }
    }
}
