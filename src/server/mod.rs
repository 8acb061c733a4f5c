//! A whole server: engine, Postgres protocol and HTTP, put together and taken apart in order.
//!
//! [`start`] listens at once. Until the engine has recovered, which may take as long as a broker is
//! away, clients are refused with 57P03 and told what is waited for, and `/readyz` says 503.
//! [`Server::stop`] ends the protocols first and the engine last.

mod metrics;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::base::{Clock, Memory};
use crate::config::ServeOptions;
use crate::dataflow::Phase;
use crate::engine::{Engine, EngineOptions, Entrance};
use crate::error::{Error, Result};
use crate::http::{self, Page, Table};
use crate::system::{EngineRows, SourceRow, ViewRow};
use crate::wire;

/// A running server.
pub struct Server {
    entrance: Entrance,
    opening: JoinHandle<Result<()>>,
    listen: SocketAddr,
    http: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<Result<()>>>,
}

/// Listens, opens the data directory and begins to recover it; [`Server::ready`] waits for the end
/// of that.
///
/// # Errors
/// When an address is taken, or the data directory cannot be opened.
pub async fn start(options: &ServeOptions) -> Result<Server> {
    let entrance = Entrance::default();
    let postgres = wire::Server::listen(
        options.listen,
        entrance.clone(),
        wire::ServerOptions::default(),
    )
    .await?;
    let web = http::Server::listen(options.http, status(&entrance)).await?;
    let (stop, stopped) = watch::channel(false);
    let (listen, http) = (postgres.address(), web.address());
    let wait = |mut stopped: watch::Receiver<bool>| async move {
        // A dropped sender stops as well.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let tasks = vec![
        tokio::spawn({
            let shutdown = wait(stopped.clone());
            async move {
                postgres.run(shutdown).await;
                Ok(())
            }
        }),
        tokio::spawn(web.run(wait(stopped))),
    ];
    let engine_options = EngineOptions {
        data_dir: options.data_dir.clone(),
        workers: options.workers(),
        checkpoint_interval_micros: i64::try_from(options.checkpoint_interval_ms)
            .unwrap_or(i64::MAX / 1000)
            .saturating_mul(1000),
        memory: Memory::of_process(options.memory_limit.bytes()),
        snapshot_age: Duration::from_secs(options.snapshot_age_limit_s),
        clock: Clock::system(),
        startup: entrance.startup().clone(),
    };
    let mut phase = entrance.startup().watch();
    let opened = entrance.clone();
    let mut opening = tokio::task::spawn_blocking(move || {
        opened.open(Engine::open(engine_options)?);
        Ok(())
    });
    tokio::select! {
        // What is wrong with the directory is told before anybody is told where to connect.
        biased;
        _ = phase.wait_for(|phase| *phase != Phase::Opening) => {}
        ended = &mut opening => {
            joined(ended)?;
            opening = tokio::spawn(async { Ok(()) });
        }
    }
    Ok(Server {
        entrance,
        opening,
        listen,
        http,
        stop,
        tasks,
    })
}

impl Server {
    /// Where Postgres clients connect.
    pub fn listen_address(&self) -> SocketAddr {
        self.listen
    }

    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// The engine behind it.
    ///
    /// # Errors
    /// 57P03 while it recovers.
    pub fn engine(&self) -> Result<&Engine> {
        self.entrance.engine()
    }

    /// Waits until clients are served.
    ///
    /// # Errors
    /// When the data directory could not be recovered.
    pub async fn ready(&mut self) -> Result<()> {
        if self.entrance.engine().is_ok() {
            return Ok(());
        }
        let ended = (&mut self.opening).await;
        self.opening = tokio::spawn(async { Ok(()) });
        joined(ended)
    }

    /// Tells clients, ends the protocols, then the engine.
    pub async fn stop(self) -> Result<()> {
        self.entrance.startup().cancel();
        self.stop.send_replace(true);
        for task in self.tasks {
            joined(task.await)?;
        }
        // A start that was cut off has nothing to say any more.
        let _ = self.opening.await;
        let Ok(engine) = self.entrance.engine().cloned() else {
            return Ok(());
        };
        let ending = tokio::task::spawn_blocking(move || {
            engine.shutdown();
            Ok(())
        });
        joined(ending.await)
    }
}

fn joined(ended: std::result::Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    ended.map_err(|error| Error::internal(format!("a server task: {error}")))?
}

/// What HTTP says of the engine.
fn status(entrance: &Entrance) -> http::Status {
    let started = Instant::now();
    let (for_ready, for_metrics, for_page) = (entrance.clone(), entrance.clone(), entrance.clone());
    http::Status {
        ready: Box::new(move || for_ready.engine().map(|_| ())),
        metrics: Box::new(move || {
            for_metrics
                .engine()
                .map_or_else(|_| Vec::new(), metrics::metrics)
        }),
        page: Box::new(move || match for_page.engine() {
            Ok(engine) => page(engine, started),
            Err(error) => Page {
                title: "Tidemill".to_string(),
                facts: vec![("state".to_string(), http::text_of(&error))],
                tables: Vec::new(),
            },
        }),
    }
}

fn page(engine: &Engine, started: Instant) -> Page {
    let memory = engine.memory();
    let (used, limit) = (memory.used() >> 20, memory.limit() >> 20);
    Page {
        title: "Tidemill".to_string(),
        facts: vec![
            ("epoch".to_string(), engine.published().epoch().to_string()),
            (
                "up".to_string(),
                format!("{} s", started.elapsed().as_secs()),
            ),
            ("memory".to_string(), format!("{used} of {limit} MB")),
        ],
        tables: tables(&engine.rows()),
    }
}

fn tables(rows: &EngineRows) -> Vec<Table> {
    let texts = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    let view = |view: &ViewRow| {
        let behind = view.freshness_ms.map(|millis| format!("{millis} ms"));
        vec![
            view.name.clone(),
            view.error.clone().unwrap_or_else(|| view.state.clone()),
            view.rows.to_string(),
            format!("{} kB", (view.bytes + view.state_bytes) >> 10),
            behind.unwrap_or_default(),
            view.rows_late.to_string(),
            view.rows_bad.to_string(),
        ]
    };
    let source = |source: &SourceRow| {
        vec![
            source.name.clone(),
            source.partition.to_string(),
            source
                .last_error
                .clone()
                .unwrap_or_else(|| source.state.clone()),
            source.position.to_string(),
            source.rows_in.to_string(),
        ]
    };
    vec![
        Table {
            title: "Views".to_string(),
            columns: texts(&["name", "state", "rows", "memory", "behind", "late", "bad"]),
            rows: rows.views.iter().map(view).collect(),
        },
        Table {
            title: "Sources".to_string(),
            columns: texts(&["name", "partition", "state", "position", "rows in"]),
            rows: rows.sources.iter().map(source).collect(),
        },
    ]
}
