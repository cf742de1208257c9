//! Admission: is this client too fast, has the customer any quota left, and the event put where the batch job finds it, in
//! one round trip, atomically: refused means that nothing was charged and nothing was written.
//!
//! ```
//! use vcache::admission::{Admission, Gate, Period, Quota, Scope, Stream, Throttle};
//! use vcache::{Config, Connection};
//!
//! /// Made once, and then shared.
//! fn gate() -> vcache::Result<Gate> {
//!     Gate::builder()
//!         .throttle(Throttle::new("org", "10000/m")?)
//!         .throttle(Throttle::new("project", "1000/m")?.key(["org", "project"])?.burst(200)?)
//!         .quota(Quota::new("events", 1_000_000, Period::Month)?.timezone("Europe/Vienna")?)
//!         .stream(Stream::new("events")?.maxlen(1_000_000))
//!         .owner("org")
//!         .shards(16)
//!         .build()
//! }
//!
//! async fn ingest(gate: &Gate, conn: &Connection, id: &str, body: &[u8]) -> vcache::Result<u16> {
//!     let scope = Scope::new().with("org", 1).with("project", 42);
//!     let decision = gate.admit(conn, Admission::new(&scope).payload(body).dedupe(id)).await?;
//!     for (name, value) in decision.headers(false) {
//!         println!("{name}: {value}");
//!     }
//!     if let Some(refusal) = &decision.refused_by {
//!         println!("refused by {}, come back in {:?}", refusal.rule, decision.retry_after);
//!     }
//!     Ok(decision.status())
//! }
//!
//! # // `make test` starts a server for this.
//! # if std::env::var_os("VCACHE_URL").is_none() { return Ok(()) }
//! let url = std::env::var("VCACHE_URL").unwrap_or("redis://localhost/1".into());
//! let conn = Connection::new("default", Config::from_url(&url)?);
//! let gate = gate()?;
//! vcache::block_on(async {
//!     assert_eq!(ingest(&gate, &conn, "0b51", b"{}").await?, 200);
//!     assert_eq!(ingest(&gate, &conn, "0b51", b"{}").await?, 200, "a duplicate is not charged");
//!     assert_eq!(gate.stream().unwrap().length(&conn).await?, 1);
//!     # for key in gate.stream().unwrap().keys(&conn) { conn.clone().del::<_, ()>(key).await?; }
//!     Ok::<_, vcache::Error>(())
//! })?;
//! # Ok::<(), vcache::Error>(())
//! ```
//!
//! Each part also stands alone: [`Throttle::check`], [`Quota::consume`], [`Stream::add`]. All of it is for use inside hot
//! paths, too: a gate called there is still one round trip. It is the feature `admission`; [`allow`] and [`enqueue`] are
//! there without.
//!
//! # What holds
//!
//! A refusal leaves every key as it was, byte for byte. (There is one exception: when the server's clock was set back by more
//! than a second, a throttle that was charged in what is now the future is dated back, owing the same.)
//!
//! A **throttle** is decided by GCRA on the server's clock: in any window W at most `burst + rate * W` units pass. A
//! **quota** is exact within its calendar window, barring a failover that loses writes. A **stream** at its greatest
//! length refuses, unless it is to drop what is oldest. A gate's **owner** is an entry of its scopes: everything of one
//! owner has one hash tag, so that it also works on a cluster.
//!
//! A **dedupe id** makes a repetition harmless: it is answered what the first was, and charged nothing. Only a call that
//! has one is sent again after a time-out.
//!
//! # Without the server
//!
//! In this order, each to be switched off in the [`Settings`]: the *deny cache* refuses what the server has just refused, as
//! long as it said; the *guard* refuses what this process alone asks beyond a multiple of a limit; and if the server fails,
//! or does not answer within the *deadline*, the *outage policy* of each rule decides, and a *breaker* spares everybody the
//! wait. A payload is never admitted in an outage: it would not be stored. [`Gate::metrics`] counts each.
//!
//! # Inside
//!
//! Each file uses those above it, and `gate` all of them:
//!
//! | module | is for |
//! |---|---|
//! | `names`, `scope`, `rate`, `limits` | the words: names, for whom, how much |
//! | `keys`, `window`, `settings` | where things stand on the server, in which calendar window, and what is done without it |
//! | `asked`, `spec` | what a call says, and what was said of rules and streams |
//! | `receipt`, `decision`, `headers`, `metrics` | what they answer |
//! | `script`, `reply`, `lua` | the scripts, and how their answers are read |
//! | `local` | what this process decides by itself |
//! | `inner` | a gate with all that its configuration determines worked out |
//! | `plan` | one call worked out: keys, numbers, calendar windows |
//! | `decide`, `run`, `care` | what the server's answers mean, asking it, and looking, giving back, forgetting |
//! | `rule` | what a throttle and a quota that stand alone have in common |
//! | `throttle`, `quota`, `stream`, `gate` | the parts, as they are made and called |
//! | `allow`, `enqueue` | one throttle and one entry, under keys of the caller's own |

mod allow;
#[cfg(feature = "admission")]
mod asked;
#[cfg(feature = "admission")]
mod care;
#[cfg(feature = "admission")]
mod decide;
#[cfg(feature = "admission")]
mod decision;
#[cfg(all(test, feature = "testing"))]
mod edges;
mod enqueue;
#[cfg(feature = "admission")]
mod gate;
#[cfg(feature = "admission")]
mod headers;
#[cfg(feature = "admission")]
mod inner;
#[cfg(feature = "admission")]
mod keys;
mod limits;
#[cfg(feature = "admission")]
mod local;
#[cfg(feature = "admission")]
mod metrics;
#[cfg(feature = "admission")]
mod names;
#[cfg(feature = "admission")]
mod plan;
#[cfg(feature = "admission")]
mod quota;
#[cfg(feature = "admission")]
mod rate;
#[cfg(feature = "admission")]
mod receipt;
mod reply;
#[cfg(feature = "admission")]
mod rule;
#[cfg(feature = "admission")]
mod run;
#[cfg(feature = "admission")]
mod scope;
mod script;
#[cfg(feature = "admission")]
mod settings;
#[cfg(feature = "admission")]
mod spec;
#[cfg(feature = "admission")]
mod stream;
#[cfg(feature = "admission")]
mod throttle;
#[cfg(feature = "admission")]
mod window;

pub use allow::{Allowance, allow, waive};
#[cfg(feature = "admission")]
pub use asked::Admission;
#[cfg(feature = "admission")]
pub use decision::{Decision, Refund, Refusal, RuleKind, RuleState, Source, Usage};
pub use enqueue::enqueue;
#[cfg(feature = "admission")]
pub use gate::{Gate, GateBuilder};
#[cfg(feature = "admission")]
pub use local::outage::OUTAGE_CODES;
#[cfg(feature = "admission")]
pub use local::{forget_refusals, forget_servers};
#[cfg(feature = "admission")]
pub use metrics::Metrics;
#[cfg(feature = "admission")]
pub use names::{LONGEST_NAME, as_name};
#[cfg(feature = "admission")]
pub use quota::Quota;
#[cfg(feature = "admission")]
pub use rate::Rate;
#[cfg(feature = "admission")]
pub use receipt::Receipt;
#[cfg(feature = "admission")]
pub use scope::{Scope, ScopeValue, Subject};
#[cfg(feature = "admission")]
pub use script::load_scripts;
#[cfg(feature = "admission")]
pub use settings::{Outage, Settings};
#[cfg(feature = "admission")]
pub use spec::{Full, Mode};
#[cfg(feature = "admission")]
pub use stream::{Event, Stream};
#[cfg(feature = "admission")]
pub use throttle::Throttle;
#[cfg(feature = "admission")]
pub use window::Period;
