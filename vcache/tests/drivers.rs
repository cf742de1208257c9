//! The connection without Python: driven by a tokio runtime, and by blocking threads.

use std::time::Duration;

use vcache::redis::{Script, pipe};
use vcache::testing::Server;
use vcache::{AsyncCommands, Connection, ErrorKind, Options, block_on};

/// Keeps the server busy for 400 ms. Not by `TIME`, which stands still in a script.
const BUSY: &str = "local start = os.clock() while os.clock() - start < 0.4 do end return 1";

#[test]
fn a_connection_goes_anywhere() {
    fn is_handle<T: Clone + Send + Sync + vcache::redis::aio::ConnectionLike + 'static>() {}
    is_handle::<vcache::Connection>();
}

#[test]
fn aliases_are_found_by_name_and_an_unknown_one_is_told_with_those_there_are() {
    let server = Server::start();
    vcache::configure("sessions", server.connection().config().clone());
    let mut conn = vcache::connection_for("sessions").unwrap();
    let () = block_on(conn.set("a", 1)).unwrap();
    let error = vcache::connection_for("sesions").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("'sesions'") && error.to_string().contains("sessions"), "{error}");
}

#[tokio::test]
async fn tokio_drives_many_calls_on_one_connection() {
    let server = Server::start();
    let conn = server.connection();
    let tasks: Vec<_> = (0..300)
        .map(|number: i64| {
            let mut conn = conn.clone();
            tokio::spawn(async move {
                let key = format!("key:{number}");
                let () = conn.set(&key, number).await?;
                let value: i64 = conn.get(&key).await?;
                let id: i64 = vcache::redis::cmd("CLIENT").arg("ID").query_async(&mut conn).await?;
                Ok::<_, vcache::Error>((number, value, id))
            })
        })
        .collect();
    let mut ids = Vec::new();
    for task in tasks {
        let (number, value, id) = task.await.unwrap().unwrap();
        assert_eq!(number, value, "each call gets its own reply");
        ids.push(id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "one connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_runtime_of_many_threads_drives_too() {
    let server = Server::start();
    let conn = server.connection();
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let mut conn = conn.clone();
            tokio::spawn(async move {
                for _ in 0..100 {
                    let _: i64 = conn.incr("count", 1).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let count: i64 = conn.clone().get("count").await.unwrap();
    assert_eq!(count, 5_000);
}

#[test]
fn runtimes_that_come_and_go_each_drive() {
    let server = Server::start();
    let conn = server.connection();
    for number in 0..20 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let total: i64 = runtime.block_on(async { conn.clone().incr("runs", 1).await.unwrap() });
        assert_eq!(total, number + 1);
    }
}

#[test]
fn a_runtime_without_io_is_refused_and_not_hung() {
    let server = Server::start();
    let mut conn = server.connection();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = runtime.block_on(async { conn.get::<_, Option<String>>("key").await }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

#[test]
fn threads_share_one_connection() {
    let server = Server::start();
    let conn = server.connection();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let mut conn = conn.clone();
            scope.spawn(move || {
                for number in 0..500 {
                    let key = format!("{thread}:{number}");
                    let back: String = block_on(async {
                        let () = conn.set(&key, &key).await?;
                        conn.get(&key).await
                    })
                    .unwrap();
                    assert_eq!(back, key);
                }
            });
        }
    });
    let clients: String =
        block_on(vcache::redis::cmd("CLIENT").arg("LIST").query_async(&mut conn.clone())).unwrap();
    assert_eq!(clients.lines().count(), 1, "{clients}");
}

#[test]
fn pipelines_transactions_and_scripts_work() {
    let server = Server::start();
    let mut conn = server.connection();
    block_on(async {
        let (set, got): ((), i64) = pipe().set("a", 1).get("a").query_async(&mut conn).await?;
        assert_eq!((set, got), ((), 1));
        let (one, two): (i64, i64) = pipe().atomic().incr("n", 1).incr("n", 1).query_async(&mut conn).await?;
        assert_eq!((one, two), (1, 2));
        let script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
        let sum: i64 = script.key("n").arg(40).invoke_async(&mut conn).await?;
        assert_eq!(sum, 42);
        let failed: Result<(i64, i64), _> = pipe().incr("n", 1).lpush("n", 1).query_async(&mut conn).await;
        assert!(failed.unwrap_err().to_string().contains("WRONGTYPE"));
        Ok::<_, vcache::Error>(())
    })
    .unwrap();
}

#[test]
fn a_blocking_command_does_not_hold_up_the_others() {
    let server = Server::start();
    let conn = server.connection();
    std::thread::scope(|scope| {
        let mut waiting = conn.clone();
        let popped =
            scope.spawn(move || block_on(waiting.blpop::<_, (String, String)>("queue", 0.0)).unwrap());
        let mut conn = conn.clone();
        let mut blocked = 0;
        while blocked == 0 {
            let info: String =
                block_on(vcache::redis::cmd("INFO").arg("clients").query_async(&mut conn)).unwrap();
            blocked = info
                .lines()
                .find_map(|line| line.strip_prefix("blocked_clients:"))
                .and_then(|count| count.trim().parse().ok())
                .unwrap();
        }
        let () = block_on(conn.rpush("queue", "event")).unwrap();
        assert_eq!(popped.join().unwrap(), ("queue".into(), "event".into()));
    });
}

#[test]
fn a_server_that_comes_back_is_used_again() {
    let mut server = Server::start();
    let mut conn = server.connection();
    let () = block_on(conn.set("a", 1)).unwrap();
    server.kill();
    let error = block_on(conn.get::<_, i64>("a")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.to_string().contains("cache 'default'"), "{error}");
    server.restart();
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while block_on(conn.get::<_, Option<i64>>("a")).is_err() {
        assert!(std::time::Instant::now() < until, "it does not reconnect");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_deadline_of_its_own_ends_a_call() {
    let server = Server::start();
    let conn = server.connection();
    let mut impatient = conn.with_timeout(Duration::from_millis(150));
    let script = Script::new(BUSY);
    let _: i64 = block_on(Script::new("return 1").invoke_async(&mut conn.clone())).unwrap();
    let error = vcache::Error::from(block_on(script.invoke_async::<_, i64>(&mut impatient)).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    let pong: String = block_on(vcache::redis::cmd("PING").query_async(&mut conn.clone())).unwrap();
    assert_eq!(pong, "PONG", "the connection lives on, and the late reply went to nobody");
}

#[test]
fn a_deadline_may_be_longer_than_the_usual_one() {
    let server = Server::start();
    let hasty = Options { response_timeout: Some(0.2), ..Options::default() };
    let conn = Connection::new("hasty", server.connection().config().clone().with_options(hasty).unwrap());
    let mut patient = conn.with_timeout(Duration::from_secs(20));
    let answer: i64 = block_on(Script::new(BUSY).invoke_async(&mut patient)).unwrap();
    assert_eq!(answer, 1);
}

#[test]
fn a_future_that_nobody_drives_is_an_error() {
    let server = Server::start();
    let mut conn = server.connection();
    let mut future = std::pin::pin!(conn.get::<_, Option<String>>("key"));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::future::Future::poll(future.as_mut(), &mut cx) {
        std::task::Poll::Ready(Err(error)) => {
            assert!(error.to_string().contains("nothing drives"), "{error}")
        }
        other => panic!("{other:?}"),
    }
}
