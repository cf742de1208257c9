//! A stream alone.

use vcache::ErrorKind;
use vcache::admission::{Event, Full, RuleKind, Scope, Settings, Stream};
use vcache::prelude::*;
use vcache::redis::cmd;

use crate::{entries, everything, keys, patient, refused_by};

const KEY: &str = "vcache:2:{v00}:s:events";

fn sharded(shards: u32) -> Settings {
    let mut settings = patient();
    settings.shards = shards;
    settings
}

#[vcache::test]
async fn an_entry_is_the_payload_and_the_scope(conn: &mut Connection) {
    let stream = Stream::new("events").unwrap().settings(patient()).unwrap();
    let scope = Scope::new().with("org", -5).with("name", "a b:{c}");
    let added = stream.add(conn, Event::new("bytes \0\r\n").scope(&scope)).await.unwrap();
    assert!(added.allowed && added.id.is_some());
    stream.add(conn, &b""[..]).await.unwrap();
    let entries = entries(conn, KEY).await;
    let fields: Vec<_> = entries[0].iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(fields, [("payload", "bytes \0\r\n"), ("org", "-5"), ("name", "a b:{c}")]);
    assert_eq!(entries[1], [("payload".to_owned(), String::new())]);
    assert_eq!(stream.length(conn).await.unwrap(), 2);
    assert_eq!(stream.metrics().admitted, 2);
}

#[vcache::test]
async fn a_full_stream_refuses(conn: &mut Connection) {
    let stream = Stream::new("events").unwrap().maxlen(2).settings(patient()).unwrap();
    assert!(stream.add(conn, Event::new("1")).await.unwrap().allowed);
    assert!(stream.add(conn, Event::new("2")).await.unwrap().allowed);
    let before = everything(conn).await;
    let refused = stream.add(conn, Event::new("3")).await.unwrap();
    assert_eq!(refused_by(&refused), Some(("events", RuleKind::Stream)));
    assert!(refused.id.is_none() && refused.retry_after.is_some());
    assert_eq!(everything(conn).await, before);
    let () = conn.del(KEY).await.unwrap();
    assert!(stream.add(conn, Event::new("3")).await.unwrap().allowed);
}

#[vcache::test]
async fn many_are_added_in_order_and_in_one_packet(conn: &mut Connection) {
    let texts: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    let events: Vec<Event> = texts.iter().map(Event::new).collect();
    let payloads = |entries: Vec<Vec<(String, String)>>| -> Vec<String> {
        entries.into_iter().map(|mut fields| fields.remove(0).1).collect()
    };
    let unbounded = Stream::new("events").unwrap().settings(patient()).unwrap();
    let ids = unbounded.add_many(conn, &events).await.unwrap();
    assert!(ids.iter().all(Option::is_some) && ids.len() == 300);
    assert_eq!(payloads(entries(conn, KEY).await), texts);

    let bounded = Stream::new("bounded").unwrap().maxlen(200);
    let ids = bounded.add_many(conn, &events).await.unwrap();
    assert!(ids[..200].iter().all(Option::is_some) && ids[200..].iter().all(Option::is_none));
    assert_eq!(payloads(entries(conn, "vcache:2:{v00}:s:bounded").await), texts[..200]);

    let trimmed = Stream::new("trimmed").unwrap().maxlen(100).full(Full::Trim);
    assert!(trimmed.add_many(conn, &events).await.unwrap().iter().all(Option::is_some));
    let length = trimmed.length(conn).await.unwrap();
    assert!((100..300).contains(&length), "{length}");
    assert!(unbounded.add_many(conn, &[]).await.unwrap().is_empty());
    assert!(unbounded.add_many(conn, &events[..1]).await.unwrap()[0].is_some());
}

#[vcache::test]
async fn many_with_ids_are_written_once_each(conn: &mut Connection) {
    let stream = Stream::new("events").unwrap().settings(patient()).unwrap();
    for _ in 0..2 {
        let () = cmd("SCRIPT").arg("FLUSH").query_async(conn).await.unwrap();
        let events = [Event::new("1").dedupe("a"), Event::new("2"), Event::new("3").dedupe("a")];
        let ids = stream.add_many(conn, &events).await.unwrap();
        assert_eq!(ids[0], ids[2], "the second is answered the first");
        assert_ne!(ids[0], ids[1]);
    }
    let entries = entries(conn, KEY).await;
    let payloads: Vec<_> = entries.iter().map(|fields| fields[0].1.as_str()).collect();
    assert_eq!(payloads, ["1", "2", "2"], "in order, also by a script that the server has to be told");
    let metrics = stream.metrics();
    assert_eq!((metrics.admitted, metrics.duplicates), (3, 3));
}

#[vcache::test]
async fn what_cannot_be_written_is_told_before_any_of_it_is(conn: &mut Connection) {
    let mut settings = patient();
    settings.max_payload = 5;
    let stream = Stream::new("events").unwrap().settings(settings).unwrap();
    let odd = Scope::new().with("payload", 1);
    for (event, text) in [
        (Event::new("123456"), "6 bytes: at most 5"),
        (Event::new("1").scope(&odd), "\"payload\""),
        (Event::new("1").dedupe(""), "dedupe id is empty"),
    ] {
        for error in [
            stream.add(conn, event).await.unwrap_err(),
            stream.add_many(conn, &[Event::new("good"), event]).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Value);
            assert!(error.to_string().contains(text), "{error}");
        }
    }
    assert!(keys(conn).await.is_empty());
    assert!(Stream::new("a:b").unwrap_err().to_string().contains("\"a:b\""));
    let sharded = Stream::new("events").unwrap().settings(sharded(2)).unwrap();
    let error = sharded.add(conn, Event::new("1").dedupe("a")).await.unwrap_err();
    assert!(error.to_string().contains("give the stream an owner"), "{error}");
}

#[vcache::test]
async fn shards_share_the_length_and_take_turns(conn: &mut Connection) {
    let stream = Stream::new("events").unwrap().maxlen(10).settings(sharded(4)).unwrap();
    assert_eq!(stream.keys(conn)[3], "vcache:2:{v03}:s:events");
    assert_eq!(stream.dead_keys(conn)[0], "vcache:2:{v00}:s:events:dead");
    let events = vec![Event::new("x"); 14];
    let ids = stream.add_many(conn, &events).await.unwrap();
    assert_eq!(ids.iter().flatten().count(), 12, "three in each, which is 10 over 4, rounded up");
    assert_eq!(stream.length(conn).await.unwrap(), 12);
    assert_eq!(keys(conn).await, stream.keys(conn));
    let scope = Scope::new().with("org", 1);
    let mut settings = sharded(4);
    settings.owner = Some("org".into());
    let owned = Stream::new("owned").unwrap().settings(settings).unwrap();
    for _ in 0..5 {
        owned.add(conn, Event::new("x").scope(&scope)).await.unwrap();
    }
    let used = keys(conn).await.into_iter().filter(|key| key.ends_with("owned")).count();
    assert_eq!(used, 1, "the owner says which");
}
