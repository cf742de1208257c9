//! Throttles, quotas, streams and gates against a real server of each test's own.

#![allow(missing_docs)]

mod costs;
mod gate;
mod local;
mod outage;
mod quota;
mod stream;
mod throttle;

use std::collections::BTreeMap;
use std::process::Command;

use vcache::admission::{Decision, RuleKind, Settings};
use vcache::redis::cmd;
use vcache::{AsyncCommands, Connection, Value};

/// Settings with which a busy machine is no outage.
fn patient() -> Settings {
    let mut settings = Settings::default();
    settings.deadline = None;
    settings
}

/// What stands on the server: of every key its dump, and when it ends.
async fn everything(conn: &mut Connection) -> BTreeMap<String, (Vec<u8>, i64)> {
    let mut all = BTreeMap::new();
    for key in keys(conn).await {
        let dump: Vec<u8> = cmd("DUMP").arg(&key).query_async(conn).await.unwrap();
        let ends: i64 = cmd("PEXPIRETIME").arg(&key).query_async(conn).await.unwrap();
        all.insert(key, (dump, ends));
    }
    all
}

async fn keys(conn: &mut Connection) -> Vec<String> {
    let mut keys: Vec<String> = conn.keys("*").await.unwrap();
    keys.sort();
    keys
}

/// How many scripts the server has run.
async fn scripts_run(conn: &mut Connection) -> u64 {
    let stats: String = cmd("INFO").arg("commandstats").query_async(conn).await.unwrap();
    let calls = |line: &str| {
        let rest = line.strip_prefix("cmdstat_eval:").or(line.strip_prefix("cmdstat_evalsha:"))?;
        rest.strip_prefix("calls=")?.split(',').next()?.parse::<u64>().ok()
    };
    stats.lines().filter_map(calls).sum()
}

/// The fields of a stream's entries.
async fn entries(conn: &mut Connection, key: &str) -> Vec<Vec<(String, String)>> {
    let reply: Value = cmd("XRANGE").arg(key).arg("-").arg("+").query_async(conn).await.unwrap();
    let Value::Array(entries) = reply else { panic!("{reply:?}") };
    entries
        .into_iter()
        .map(|entry| {
            let (_, fields): (String, Vec<String>) = vcache::redis::from_redis_value(entry).unwrap();
            fields.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
        })
        .collect()
}

/// Which rule refused.
fn refused_by(decision: &Decision) -> Option<(&str, RuleKind)> {
    decision.refused_by.as_ref().map(|refusal| (&*refusal.rule, refusal.kind))
}

/// A server that does not answer until this is dropped.
struct Stopped(String);

impl Stopped {
    async fn now(conn: &mut Connection) -> Self {
        let info: String = cmd("INFO").arg("server").query_async(conn).await.unwrap();
        let pid = info.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap().to_owned();
        signal("-STOP", &pid);
        // The signal is on its way: what the server does until it has it, it may still answer.
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        while state().rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('T')) {
            std::thread::yield_now();
        }
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal("-CONT", &self.0);
    }
}

fn signal(signal: &str, pid: &str) {
    assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
}
