//! The HTTP listener and its four pages.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::base::limits::SHUTDOWN_GRACE_MS;
use crate::error::{Error, Result};
use crate::http::metrics::{Metric, render};
use crate::http::page::Page;

/// What is asked of the running server. The answers are snapshots that are at hand: a question must
/// neither wait nor work long, for it is asked on the protocols' threads.
pub struct Status {
    /// Whether statements can be served; else why not yet.
    pub ready: Box<dyn Fn() -> Result<()> + Send + Sync>,
    pub metrics: Box<dyn Fn() -> Vec<Metric> + Send + Sync>,
    pub page: Box<dyn Fn() -> Page + Send + Sync>,
}

/// The HTTP server.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    status: Arc<Status>,
}

impl Server {
    /// Binds `address`; port 0 takes a free one.
    pub async fn listen(address: SocketAddr, status: Status) -> Result<Server> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| Error::io(format!("cannot listen on {address}"), &error))?;
        let address = listener
            .local_addr()
            .map_err(|error| Error::io(format!("cannot tell the port of {address}"), &error))?;
        Ok(Server {
            listener,
            address,
            status: Arc::new(status),
        })
    }

    /// Where browsers and scrapers connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` resolves and the requests under way are answered or their time is
    /// over.
    ///
    /// # Errors
    /// When the listener fails for good.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let Server {
            listener,
            address,
            status,
        } = self;
        let (stopped_tx, stopped) = tokio::sync::oneshot::channel();
        let stop = async move {
            shutdown.await;
            // The receiver is gone only when serving has already ended.
            let _ = stopped_tx.send(());
        };
        let served = axum::serve(listener, router(status)).with_graceful_shutdown(stop);
        let overtime = async {
            match stopped.await {
                Ok(()) => tokio::time::sleep(Duration::from_millis(SHUTDOWN_GRACE_MS)).await,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            served = served => {
                served.map_err(|error| Error::io(format!("serving HTTP on {address}"), &error))
            }
            () = overtime => Ok(()),
        }
    }
}

fn router(status: Arc<Status>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(status)
}

async fn ready(State(status): State<Arc<Status>>) -> Response {
    match (status.ready)() {
        Ok(()) => "ready\n".into_response(),
        Err(error) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{}\n", text_of(&error)),
        )
            .into_response(),
    }
}

/// An error in one line.
pub fn text_of(error: &Error) -> String {
    match error.get_detail() {
        Some(detail) => format!("{}: {detail}", error.message()),
        None => error.message().to_string(),
    }
}

async fn metrics(State(status): State<Arc<Status>>) -> Response {
    let text = render(&(status.metrics)());
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        text,
    )
        .into_response()
}

async fn page(State(status): State<Arc<Status>>, headers: HeaderMap) -> Response {
    let page = (status.page)();
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    match accept.is_some_and(|accept| accept.contains("text/html")) {
        true => Html(page.to_html()).into_response(),
        false => page.to_text().into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    use crate::error::SqlState;
    use crate::http::MetricKind;

    use super::*;

    fn status(ready: fn() -> Result<()>) -> Status {
        Status {
            ready: Box::new(ready),
            metrics: Box::new(|| vec![Metric::single("up", "Up.", MetricKind::Gauge, 1.0)]),
            page: Box::new(|| Page {
                title: "Tidemill".into(),
                ..Page::default()
            }),
        }
    }

    async fn asked(address: SocketAddr, path: &str, accept: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: here\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn every_page_answers_and_the_server_stops_when_told() {
        let starting = || {
            Err(Error::new(
                SqlState::CANNOT_CONNECT_NOW,
                "recovering epoch 7",
            ))
        };
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::listen(local, status(starting)).await.unwrap();
        let address = server.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));

        let health = asked(address, "/healthz", "*/*").await;
        assert!(health.starts_with("HTTP/1.1 200"), "{health}");
        let ready = asked(address, "/readyz", "*/*").await;
        assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("recovering epoch 7"));
        let metrics = asked(address, "/metrics", "*/*").await;
        assert!(
            metrics.contains("version=0.0.4") && metrics.ends_with("up 1\n"),
            "{metrics}"
        );
        assert!(asked(address, "/", "*/*").await.ends_with("Tidemill\n"));
        assert!(
            asked(address, "/", "text/html,*/*")
                .await
                .contains("<h1>Tidemill</h1>")
        );
        assert!(
            asked(address, "/other", "*/*")
                .await
                .starts_with("HTTP/1.1 404")
        );

        stop.send(()).unwrap();
        running.await.unwrap().unwrap();
    }
}
