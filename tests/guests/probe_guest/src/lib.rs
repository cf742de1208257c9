//! Hot paths that do what a test wants to see done: fail, panic, block, and measure.

mod bombs;
mod raw;

/// What the tests call.
#[vcache::module]
mod probe_guest {
    use std::future::Future;
    use std::task::Context;
    use std::time::Duration;

    use vcache::prelude::*;
    use vcache::{Packet, redis};

    use crate::bombs::{Bomb, Payload, Unshowable, waker};
    use crate::raw;

    /// The server's number for the connection that this runs on.
    #[hotpath]
    pub async fn connection_id(conn: &mut Connection) -> vcache::Result<u64> {
        Ok(redis::cmd("CLIENT").arg("ID").query_async(conn).await?)
    }

    /// The server's number for the connection to each primary, and how many keys that one has.
    #[hotpath]
    pub async fn primaries(conn: &mut Connection) -> vcache::Result<Vec<(u64, u64)>> {
        let mut found = Vec::new();
        for mut node in conn.primaries().await?.connections() {
            let id = redis::cmd("CLIENT").arg("ID").query_async(&mut node).await?;
            found.push((id, redis::cmd("DBSIZE").query_async(&mut node).await?));
        }
        Ok(found)
    }

    /// The bytes under a key.
    #[hotpath]
    pub async fn fetch(conn: &mut Connection, key: &str) -> vcache::Result<Option<Vec<u8>>> {
        Ok(conn.get(key).await?)
    }

    fn command(words: Vec<String>) -> redis::Cmd {
        let mut command = redis::Cmd::new();
        words.iter().for_each(|word| {
            command.arg(word);
        });
        command
    }

    /// Any command's reply, as text.
    #[hotpath]
    pub async fn reply(conn: &mut Connection, words: Vec<String>) -> vcache::Result<String> {
        let reply: vcache::Value = command(words).query_async(conn).await?;
        Ok(format!("{reply:?}"))
    }

    /// The same, also if there are errors in it.
    #[hotpath]
    pub async fn raw(conn: &mut Connection, words: Vec<String>) -> vcache::Result<String> {
        let reply = conn.check(conn.send_command(&command(words))?.await?)?;
        Ok(format!("{reply:?}"))
    }

    /// The replies to commands that are sent together, as text.
    #[hotpath]
    pub async fn pipeline(
        conn: &mut Connection,
        commands: Vec<Vec<String>>,
        atomic: bool,
    ) -> vcache::Result<Vec<String>> {
        let mut pipeline = redis::pipe();
        if atomic {
            pipeline.atomic();
        }
        commands.into_iter().for_each(|words| {
            pipeline.add_command(command(words));
        });
        let replies: Vec<vcache::Value> = pipeline.query_async(conn).await?;
        Ok(replies.iter().map(|reply| format!("{reply:?}")).collect())
    }

    /// The reply to commands that are sent in one packet, as text; with `repeatable`, that is promised or forbidden.
    #[hotpath(signature = (commands, repeatable = None))]
    pub async fn packet(
        conn: &mut Connection,
        commands: Vec<Vec<String>>,
        repeatable: Option<bool>,
    ) -> vcache::Result<String> {
        let mut packet = Packet::pipeline();
        for words in &commands {
            packet.then(&words[0], words.len() - 1);
            words[1..].iter().for_each(|word| {
                packet.arg(word.as_bytes());
            });
        }
        if let Some(repeatable) = repeatable {
            packet = packet.repeatable(repeatable);
        }
        Ok(format!("{:?}", conn.send(packet).await?))
    }

    /// Has the calls of `raw_call` find the table.
    #[pyfunction]
    fn find_table(py: vcache::pyo3::Python<'_>) -> vcache::pyo3::PyResult<()> {
        raw::find(py)
    }

    /// The tags of the reply to bytes that are handed to the host as they are, with what is said of them.
    #[hotpath(signature = (bytes, replies, flags = 0, blocks = 0))]
    pub async fn raw_call(
        _conn: &mut Connection,
        bytes: Vec<u8>,
        replies: usize,
        flags: u64,
        blocks: u64,
    ) -> vcache::Result<Vec<u32>> {
        raw::call(bytes, raw::Said { replies, flags, blocks }).await
    }

    /// Bytes there and back. They are borrowed from the Python object while the call runs.
    #[hotpath]
    pub async fn echo(conn: &mut Connection, payload: &[u8]) -> vcache::Result<Vec<u8>> {
        Ok(redis::cmd("ECHO").arg(payload).query_async(conn).await?)
    }

    /// A pipeline that is a transaction, with one command that fails among others.
    #[hotpath]
    pub async fn transaction(conn: &mut Connection, key: &str) -> vcache::Result<(i64, i64)> {
        Ok(redis::pipe().atomic().incr(key, 2).incr(key, 3).query_async(conn).await?)
    }

    /// Panics before it has asked anything, or after.
    #[hotpath]
    pub async fn panics(conn: &mut Connection, after: bool) -> vcache::Result<()> {
        if after {
            let _: Option<i64> = conn.get("nothing").await?;
        }
        panic!("as it was told to");
    }

    /// Panics when its locals are dropped, and waits on a list before that.
    #[hotpath]
    pub async fn holds_a_bomb(conn: &mut Connection, key: &str, seconds: f64) -> vcache::Result<()> {
        let _bomb = Bomb;
        let _: Option<(String, String)> = conn.blpop(key, seconds).await?;
        Ok(())
    }

    /// Panics with what panics when it is dropped.
    #[hotpath]
    pub async fn panics_with_a_bomb(conn: &mut Connection) -> vcache::Result<()> {
        let _: Option<i64> = conn.get("nothing").await?;
        std::panic::panic_any(Payload);
    }

    /// Its result panics on its way to Python.
    #[hotpath]
    pub async fn answers_with_a_bomb(conn: &mut Connection) -> vcache::Result<Unshowable> {
        let _: Option<i64> = conn.get("nothing").await?;
        Ok(Unshowable)
    }

    /// A value of a key, asked for twice. The first caller panics when it is woken.
    #[hotpath]
    pub async fn wakes_a_bomb(conn: &mut Connection, key: &str) -> vcache::Result<(Vec<u8>, Vec<u8>)> {
        let panicking = waker();
        let first = loop {
            let mut packet = Packet::command("GET", 1);
            packet.arg(key.as_bytes());
            let mut first = Box::pin(conn.clone().send(packet));
            // Another thread that drives may have the reply already.
            if first.as_mut().poll(&mut Context::from_waker(&panicking)).is_pending() {
                break first;
            }
        };
        // Replies come in the order of the calls.
        let second: Vec<u8> = conn.get(key).await?;
        Ok((redis::from_redis_value(first.await?).unwrap(), second))
    }

    /// Keeps the thread that polls it for so long.
    #[hotpath]
    pub async fn blocks(conn: &mut Connection, milliseconds: u64) -> vcache::Result<Option<i64>> {
        std::thread::sleep(Duration::from_millis(milliseconds));
        Ok(conn.get("nothing").await?)
    }

    /// Fails by itself.
    #[hotpath]
    pub async fn fails(_conn: &mut Connection, why: &str) -> vcache::Result<()> {
        Err(vcache::Error::value(why))
    }

    /// Counts the hits of a path, and answers with what the request was; a body that says so is refused.
    #[hotpath]
    pub async fn answer(conn: &mut Connection, req: Request, project: u64) -> vcache::Result<Response> {
        #[derive(serde::Deserialize)]
        struct Wish<'a> {
            #[serde(borrow)]
            say: std::borrow::Cow<'a, str>,
            refuse: Option<u16>,
        }

        let Wish { say, refuse } = req.json()?;
        let hits: i64 = conn.incr(format!("hits:{project}"), 1).await?;
        if let Some(status) = refuse {
            return Err(vcache::Error::request(status, say));
        }
        let seen = (req.method(), req.path(), req.query("q"), req.client(), say, hits);
        Response::new(201).header("X-Host", req.host().unwrap_or_default())?.json(&seen)
    }

    /// The address of the client.
    #[hotpath]
    pub async fn client(_conn: &mut Connection, req: Request) -> Option<String> {
        req.client().map(Into::into)
    }

    /// Takes an element off a list, waiting for one for so many seconds, on a connection of its own.
    #[hotpath]
    pub async fn pop(
        conn: &mut Connection,
        key: &str,
        seconds: f64,
    ) -> vcache::Result<Option<(String, String)>> {
        Ok(conn.blpop(key, seconds).await?)
    }

    /// As `pop`, and with any amount of patience for the reply.
    #[hotpath]
    pub async fn pop_patiently(
        conn: &mut Connection,
        key: &str,
        seconds: f64,
    ) -> vcache::Result<Option<(String, String)>> {
        Ok(conn.with_timeout(std::time::Duration::MAX).blpop(key, seconds).await?)
    }

    /// On another alias than `default`, found by name while it runs.
    #[hotpath]
    pub async fn elsewhere(_conn: &mut Connection, alias: &str) -> vcache::Result<u64> {
        let mut conn = vcache::connection_for(alias)?;
        Ok(redis::cmd("CLIENT").arg("ID").query_async(&mut conn).await?)
    }

    /// A command's replies, asked for so many times on a tokio runtime of this library's own.
    #[cfg(feature = "spawns")]
    #[hotpath(spawn)]
    pub async fn spawned(
        conn: &mut Connection,
        words: Vec<String>,
        times: usize,
    ) -> vcache::Result<Vec<String>> {
        let command = command(words);
        let mut replies = Vec::with_capacity(times);
        for _ in 0..times {
            let reply: vcache::Value = command.query_async(conn).await?;
            replies.push(format!("{reply:?}"));
        }
        Ok(replies)
    }

    /// Panics there.
    #[cfg(feature = "spawns")]
    #[hotpath(spawn)]
    pub async fn spawned_panic(conn: &mut Connection) -> vcache::Result<()> {
        let _: Option<i64> = conn.get("nothing").await?;
        panic!("as it was told to");
    }

    /// One gate for all calls: what it knows of refusals and outages is this library's own.
    #[cfg(feature = "admission")]
    fn gate() -> &'static vcache::admission::Gate {
        use vcache::admission::{Gate, Period, Quota, Settings, Stream, Throttle};

        static GATE: std::sync::LazyLock<Gate> = std::sync::LazyLock::new(|| {
            let gate = || -> vcache::Result<Gate> {
                // A busy machine is no outage.
                let mut settings = Settings::default();
                settings.deadline = None;
                Gate::builder()
                    .settings(settings)
                    .owner("org")
                    .throttle(Throttle::new("org", "100/d")?)
                    .quota(Quota::new("events", 20, Period::Month)?.timezone("Europe/Vienna")?)
                    .stream(Stream::new("incoming")?)
                    .shards(4)
                    .build()
            };
            gate().expect("the gate makes sense")
        });
        &GATE
    }

    /// Asks the gate: whether it was allowed, whether it was a duplicate, who decided, and the receipt.
    #[cfg(feature = "admission")]
    #[hotpath(signature = (org, payload = None, cost = 1, dedupe = None))]
    pub async fn admit(
        conn: &mut Connection,
        org: i64,
        payload: Option<Vec<u8>>,
        cost: i64,
        dedupe: Option<String>,
    ) -> vcache::Result<(bool, bool, String, Option<String>)> {
        let scope = vcache::admission::Scope::new().with("org", org);
        let mut admission = vcache::admission::Admission::new(&scope).cost(cost);
        if let Some(payload) = &payload {
            admission = admission.payload(payload);
        }
        if let Some(id) = &dedupe {
            admission = admission.dedupe(id);
        }
        let decision = gate().admit(conn, admission).await?;
        let receipt = decision.receipt.map(|receipt| receipt.to_string());
        Ok((decision.allowed, decision.duplicate, decision.source.as_str().to_owned(), receipt))
    }

    /// Gives back what was admitted under a receipt; whether it was now.
    #[cfg(feature = "admission")]
    #[hotpath]
    pub async fn refund(conn: &mut Connection, receipt: &str) -> vcache::Result<bool> {
        Ok(gate().refund(conn, &receipt.parse()?).await?.refunded)
    }

    /// The version of the crate.
    #[pyfunction]
    fn noop() {}

    use vcache::pyo3::pyfunction;
}
