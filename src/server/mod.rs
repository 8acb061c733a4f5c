//! A whole server: engine, Postgres protocol and HTTP, put together and taken apart in order.
//!
//! [`start`] listens at once. Until the engine has recovered, which may take as long as a broker is
//! away, clients are refused with 57P03 and told what is waited for, and `/readyz` says 503.
//! [`Server::stop`] ends the protocols first and the engine last.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::base::Clock;
use crate::config::ServeOptions;
use crate::dataflow::Phase;
use crate::engine::{Engine, EngineOptions, Entrance};
use crate::error::{Error, Result};
use crate::http::{self, Metric, MetricKind, Page, Table};
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
        metrics: Box::new(move || for_metrics.engine().map_or_else(|_| Vec::new(), metrics)),
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

fn metrics(engine: &Engine) -> Vec<Metric> {
    let (epoch, relations) = engine.published().status();
    let catalog = engine.catalog();
    let per_relation = |name: &'static str, help, kind, value: &dyn Fn(usize) -> Option<f64>| {
        let samples = relations
            .iter()
            .enumerate()
            .filter_map(|(place, relation)| {
                let object = catalog.get(relation.id)?;
                let labels = vec![("relation", object.name().to_string())];
                Some(http::Sample {
                    labels,
                    value: value(place)?,
                })
            });
        Metric {
            name,
            help,
            kind,
            samples: samples.collect(),
        }
    };
    #[expect(clippy::cast_precision_loss, reason = "Prometheus has only floats")]
    let float = |number: u64| number as f64;
    let bytes = |number: usize| float(u64::try_from(number).unwrap_or(u64::MAX));
    vec![
        Metric::single(
            "tidemill_epoch",
            "The newest published epoch.",
            MetricKind::Gauge,
            float(epoch.0),
        ),
        per_relation(
            "tidemill_rows",
            "Rows of the relation.",
            MetricKind::Gauge,
            &|n| relations[n].rows.map(float),
        ),
        per_relation(
            "tidemill_rows_changed_total",
            "Rows of change, insertions and removals.",
            MetricKind::Counter,
            &|n| Some(float(relations[n].statistics.rows_changed)),
        ),
        per_relation(
            "tidemill_state_bytes",
            "Bytes of operator state.",
            MetricKind::Gauge,
            &|n| Some(bytes(relations[n].statistics.state_bytes)),
        ),
        per_relation(
            "tidemill_rows_late_total",
            "Rows that came too late.",
            MetricKind::Counter,
            &|n| Some(float(relations[n].statistics.counts.rows_late)),
        ),
    ]
}

fn page(engine: &Engine, started: Instant) -> Page {
    let (epoch, relations) = engine.published().status();
    let catalog = engine.catalog();
    let row = |relation: &crate::dataflow::CollectionStatus| {
        let object = catalog.get(relation.id)?;
        Some(vec![
            object.kind().to_string(),
            object.name().to_string(),
            relation
                .rows
                .map_or_else(String::new, |rows| rows.to_string()),
            relation
                .failure
                .as_ref()
                .map_or("running".to_string(), |e| e.message().to_string()),
        ])
    };
    Page {
        title: "Tidemill".to_string(),
        facts: vec![
            ("epoch".to_string(), epoch.to_string()),
            (
                "up".to_string(),
                format!("{} s", started.elapsed().as_secs()),
            ),
        ],
        tables: vec![Table {
            title: "Relations".to_string(),
            columns: ["kind", "name", "rows", "state"]
                .map(str::to_string)
                .to_vec(),
            rows: relations.iter().filter_map(row).collect(),
        }],
    }
}
