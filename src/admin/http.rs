//! The HTTP side of the admin port. Bounded: connections, header time, life of a connection, and a
//! request's body is never read.

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use super::AdminState;

/// A few scrapers, probes and people.
const CONNECTIONS_MAX: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest life of a connection: no place is held for ever.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(120);
/// After that, time to finish the answer under way.
const CLOSE_GRACE: Duration = Duration::from_secs(5);
/// Pause after `accept` failed, as it does while file descriptors are used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const HEADER_BYTES_MAX: usize = 16 * 1024;

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

const INDEX: &str = "slotway admin port\n\n\
    /metrics         Prometheus text\n\
    /livez           is every worker's loop turning\n\
    /readyz          may traffic come (?verbose lists the conditions)\n\
    /topology        the cluster as this process sees it (JSON)\n\
    /config          the effective configuration, secrets masked\n";

/// Accepts and answers until dropped. Needs a `LocalRuntime` (it uses `spawn_local`).
pub async fn serve(listener: TcpListener, state: Rc<dyn AdminState>) {
    let open = Rc::new(Cell::new(0));
    loop {
        match listener.accept().await {
            Ok((stream, _)) if open.get() < CONNECTIONS_MAX => {
                let place = Place::take(&open);
                let state = Rc::clone(&state);
                tokio::task::spawn_local(async move {
                    connection(stream, state).await;
                    drop(place);
                });
            }
            // Dropping the connection is the answer a full house can afford.
            Ok(_) => {}
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// One of the `CONNECTIONS_MAX` places.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Self(Rc::clone(open))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

async fn connection(stream: TcpStream, state: Rc<dyn AdminState>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), request.uri().query(), &*state);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut connection = pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(HEADER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
    );
    // A peer that breaks HTTP or goes away concerns nobody else.
    if tokio::time::timeout(CONNECTION_AGE_MAX, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ended_or_cut = tokio::time::timeout(CLOSE_GRACE, connection).await;
    }
}

fn respond(
    method: &Method,
    path: &str,
    query: Option<&str>,
    state: &dyn AdminState,
) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        let mut response = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/" => reply(StatusCode::OK, TEXT, INDEX.to_owned()),
        "/metrics" => reply(StatusCode::OK, PROMETHEUS, state.metrics_text()),
        "/livez" => match state.live() {
            Ok(()) => reply(StatusCode::OK, TEXT, "ok\n".to_owned()),
            Err(why) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
        },
        "/readyz" => {
            ready(state, query.is_some_and(|query| query.split('&').any(|part| part.starts_with("verbose"))))
        }
        "/topology" => reply(StatusCode::OK, JSON, state.topology_json()),
        "/config" => reply(StatusCode::OK, TEXT, state.config_text()),
        _ => reply(StatusCode::NOT_FOUND, TEXT, format!("not found\n\n{INDEX}")),
    }
}

/// Says why not even without `verbose`: the line stands in the events of a pod.
fn ready(state: &dyn AdminState, verbose: bool) -> Response<Full<Bytes>> {
    let mut ready = true;
    let mut text = String::new();
    for check in state.ready() {
        match check.result {
            Ok(()) if verbose => text.push_str(&format!("[+] {}\n", check.name)),
            Ok(()) => {}
            Err(why) => {
                ready = false;
                text.push_str(&format!("[-] {}: {why}\n", check.name));
            }
        }
    }
    text.push_str(if ready { "ok\n" } else { "not ready\n" });
    reply(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, TEXT, text)
}

fn reply(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
