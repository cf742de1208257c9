//! A request from its bytes to its answer. Nothing that a client sends is an error of ours: it is answered.

use std::borrow::Cow;

use vcache::Connection;
use vcache::http::Request;

use crate::admission::admit;
use crate::answer::Answer;
use crate::auth::{is_key, key_in_header, key_of_dsn};
use crate::client_report::dropped_errors;
use crate::counts::{self, Outcome};
use crate::envelope::{Envelope, Item};
use crate::event::Event;
use crate::project::{self, Found, Project};
use crate::refusal::Refusal;

/// The key that a request has outside of its body.
fn key(request: &Request) -> Option<Cow<'_, str>> {
    let of_header = |name: &str| match request.header(name)? {
        Cow::Borrowed(value) => key_in_header(value).map(Cow::Borrowed),
        Cow::Owned(value) => key_in_header(&value).map(|key| Cow::Owned(key.to_owned())),
    };
    of_header("x-sentry-auth")
        .or_else(|| of_header("authorization"))
        .or_else(|| request.query("sentry_key"))
        .filter(|key| is_key(key))
}

/// An envelope: several items, of which events are taken and reports are counted.
pub async fn envelope(conn: &mut Connection, id: u64, request: &Request) -> vcache::Result<Answer> {
    match key(request) {
        Some(key) => match check(conn, id, &key).await? {
            Ok(project) => take(conn, id, &project, Envelope::read(request.body()?)).await,
            Err(answer) => Ok(answer),
        },
        // Behind a tunnel the key is in the envelope alone, which then is read for anybody.
        None => {
            let read = Envelope::read(request.body()?);
            let dsn = read.as_ref().ok().and_then(|envelope| envelope.header.dsn.clone());
            let key = dsn.as_deref().map_or_else(|| Err(no_key()), |dsn| key_of_dsn(dsn, id));
            let found = match key {
                Ok(key) => check(conn, id, key).await?,
                Err(refusal) => Err(refusal.into()),
            };
            match found {
                Ok(project) => take(conn, id, &project, read).await,
                Err(answer) => Ok(answer),
            }
        }
    }
}

/// An event alone, as older clients send it.
pub async fn store(conn: &mut Connection, id: u64, request: &Request) -> vcache::Result<Answer> {
    let Some(key) = key(request) else { return Ok(no_key().into()) };
    let project = match check(conn, id, &key).await? {
        Ok(project) => project,
        Err(answer) => return Ok(answer),
    };
    match Event::read_stored(request.body()?) {
        Ok(event) => keep(conn, id, &project, &[event]).await,
        Err(refusal) => Ok(invalid(id, refusal)),
    }
}

/// The project, if this is its key; else the answer.
async fn check(conn: &mut Connection, id: u64, key: &str) -> vcache::Result<Result<Project, Answer>> {
    Ok(match project::find(conn, id).await? {
        Found::Project(project) if project.key == key => Ok(project),
        Found::Away => Err(Answer::unavailable("the project cannot be looked up: try again later", 1)),
        _ => Err(Refusal::forbidden("there is no such project with this key").into()),
    })
}

fn no_key() -> Refusal {
    Refusal::forbidden("there is no key: send X-Sentry-Auth, or ?sentry_key=")
}

/// What an envelope holds, of a client that may send it.
async fn take(
    conn: &mut Connection,
    id: u64,
    project: &Project,
    read: Result<Envelope<'_>, Refusal>,
) -> vcache::Result<Answer> {
    match read.and_then(|envelope| contents(id, &envelope)) {
        Ok((events, dropped)) => {
            counts::count(id, Outcome::Dropped, dropped);
            keep(conn, id, project, &events).await
        }
        Err(refusal) => Ok(invalid(id, refusal)),
    }
}

/// The events of an envelope, and how many its client has dropped.
fn contents<'a>(id: u64, envelope: &Envelope<'a>) -> Result<(Vec<Event<'a>>, u64), Refusal> {
    if let Some(dsn) = &envelope.header.dsn {
        // The key of the request counts, but a dsn of another project is a mistake all the same.
        key_of_dsn(dsn, id)?;
    }
    let (mut events, mut dropped) = (Vec::new(), 0);
    // The header's id is the first event's: the protocol has no second one.
    let mut first = envelope.header.event_id;
    for item in &envelope.items {
        match item {
            Item::Event(payload) => events.push(Event::read(*payload, first.take())?),
            Item::ClientReport(payload) => dropped += dropped_errors(payload),
        }
    }
    Ok((events, dropped))
}

/// Puts events on the stream, and answers.
async fn keep(
    conn: &mut Connection,
    id: u64,
    project: &Project,
    events: &[Event<'_>],
) -> vcache::Result<Answer> {
    let mut beside = conn.clone();
    // What was counted before goes along: no round trip more.
    let (decisions, ()) = tokio::join!(admit(conn, id, project, events), counts::write_if_due(&mut beside));
    let decisions = decisions?;
    let mut refused = None;
    for decision in &decisions {
        let outcome = match decision.status() {
            200 if decision.duplicate => Outcome::Duplicate,
            200 => Outcome::Accepted,
            429 => Outcome::Limited,
            _ => Outcome::Unavailable,
        };
        counts::count(id, outcome, 1);
        if !decision.allowed {
            refused.get_or_insert(decision);
        }
    }
    Ok(match refused {
        None => Answer::taken(events.first().map(|event| &*event.id)),
        Some(decision) => Answer::refused(decision),
    })
}

fn invalid(id: u64, refusal: Refusal) -> Answer {
    counts::count(id, Outcome::Invalid, 1);
    refusal.into()
}
