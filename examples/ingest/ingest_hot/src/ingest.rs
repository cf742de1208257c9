//! A request from its bytes to its answer. Nothing that a client sends is an error of ours: it is answered.

use vcache::{Connection, Error, ErrorKind};

use crate::admission::admit;
use crate::answer::Answer;
use crate::auth::{key_of_dsn, key_of_request};
use crate::client_report::dropped_errors;
use crate::counts::{self, Outcome};
use crate::envelope::{Envelope, Item};
use crate::event::Event;
use crate::project::{self, Project};
use crate::refusal::Refusal;

/// What is needed of a request.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The header `X-Sentry-Auth`.
    pub sentry_auth: Option<&'a str>,
    /// The header `Authorization`.
    pub authorization: Option<&'a str>,
    /// What follows the `?`.
    pub query: &'a str,
    /// Decoded.
    pub body: &'a [u8],
}

/// An envelope: several items, of which events are taken and reports are counted.
pub async fn envelope(conn: &mut Connection, id: u64, asked: &Asked<'_>) -> vcache::Result<Answer> {
    // It is read before the key is checked: the key may be in it.
    let read = Envelope::read(asked.body);
    let in_dsn = read.as_ref().ok().and_then(|envelope| envelope.header.dsn.as_deref());
    let found = check(conn, id, asked, in_dsn).await;
    let project = match found {
        Ok(project) => project,
        Err(answer) => return answer,
    };
    let taken = read.and_then(|envelope| {
        let mut events = Vec::new();
        let mut dropped = 0;
        let mut first = envelope.header.event_id;
        for item in &envelope.items {
            match item {
                // The header's id is the first event's: the protocol has no second one.
                Item::Event(payload) => events.push(Event::read(*payload, first.take())?),
                Item::ClientReport(payload) => dropped += dropped_errors(payload),
            }
        }
        Ok((events, dropped))
    });
    match taken {
        Ok((events, dropped)) => {
            counts::count(id, Outcome::Dropped, dropped);
            keep(conn, id, &project, &events).await
        }
        Err(refusal) => Ok(invalid(id, refusal)),
    }
}

/// An event alone, as older clients send it.
pub async fn store(conn: &mut Connection, id: u64, asked: &Asked<'_>) -> vcache::Result<Answer> {
    let project = match check(conn, id, asked, None).await {
        Ok(project) => project,
        Err(answer) => return answer,
    };
    match Event::read_stored(asked.body) {
        Ok(event) => keep(conn, id, &project, &[event]).await,
        Err(refusal) => Ok(invalid(id, refusal)),
    }
}

/// The project, if the request has its key; else the answer.
async fn check(
    conn: &mut Connection,
    id: u64,
    asked: &Asked<'_>,
    dsn: Option<&str>,
) -> Result<Project, vcache::Result<Answer>> {
    let key = match (key_of_request(asked.sentry_auth, asked.authorization, asked.query), dsn) {
        (_, Some(dsn)) => {
            // If there are two keys, that of the request counts; a dsn of another project is a mistake all the same.
            let in_dsn = key_of_dsn(dsn, id).map_err(|refusal| Ok(refusal.into()))?;
            Some(key_of_request(asked.sentry_auth, asked.authorization, asked.query).unwrap_or(in_dsn))
        }
        (key, None) => key,
    };
    let Some(key) = key else {
        return Err(Ok(Refusal::forbidden("there is no key: send X-Sentry-Auth, or ?sentry_key=").into()));
    };
    match project::find(conn, id).await {
        Ok(Some(project)) if project.key == key => Ok(project),
        Ok(_) => Err(Ok(Refusal::forbidden("there is no such project with this key").into())),
        Err(error) if is_outage(&error) => {
            Err(Ok(Answer::unavailable("the project cannot be looked up: try again later", 1)))
        }
        Err(error) => Err(Err(error)),
    }
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

/// Whether the server, or the database of the loader, is away.
fn is_outage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Connection | ErrorKind::Timeout)
}
