//! Uptime keeps the last word of each machine that reports, and says who has gone silent.
//!
//! GET  /health          {"status": "ok", "version": "..."}
//! POST /alive/NAME      a machine is alive now
//! GET  /silent/SECONDS  names of those not heard of for so long, a line each
//!
//! It binds its own port, as most small programs do, and knows nothing of Regrow: with `trap_bind` two releases of it
//! share that port at a switch.

mod heard;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, path::PathBuf, sync::Arc, thread};

use heard::Heard;

const ADDRESS: &str = "127.0.0.1:8733";
const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST_BODY: u64 = 64 * 1024;

/// What the build was given, or "dev".
const VERSION: &str = match option_env!("REGROW_VERSION") {
    Some(version) => version,
    None => "dev",
};

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The status and the body for a request.
fn answer(heard: &Heard, method: &str, path: &str, now: u64) -> (&'static str, String) {
    let parts: Vec<&str> = path.trim_matches('/').splitn(2, '/').collect();
    match (method, parts.as_slice()) {
        ("GET", ["health"]) => (
            "200 OK",
            format!("{{\"status\": \"ok\", \"version\": \"{VERSION}\"}}\n"),
        ),
        ("POST", ["alive", name]) if heard::is_name(name) => match heard.note(name, now) {
            Ok(()) => ("200 OK", format!("{name}\n")),
            Err(error) => ("500 Internal Server Error", format!("{error}\n")),
        },
        ("GET", ["silent", seconds]) => match (seconds.parse(), heard.all()) {
            (Ok(seconds), Ok(all)) => ("200 OK", heard::silent(&all, seconds, now)),
            (Err(_), _) => ("400 Bad Request", "seconds are a number\n".into()),
            (_, Err(error)) => ("500 Internal Server Error", format!("{error}\n")),
        },
        _ => (
            "404 Not Found",
            "GET /health, POST /alive/NAME, GET /silent/SECONDS\n".into(),
        ),
    }
}

/// One request, one answer, and goodbye.
fn serve(heard: &Heard, connection: TcpStream) -> std::io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut first = String::new();
    reader.by_ref().take(8192).read_line(&mut first)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.by_ref().take(8192).read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    // A body that is never read would be answered by a reset.
    std::io::copy(
        &mut reader.by_ref().take(LONGEST_BODY.min(length)),
        &mut std::io::sink(),
    )?;
    let words: Vec<&str> = first.split_whitespace().collect();
    let (status, body) = match words.as_slice() {
        [method, path, ..] => answer(heard, method, path, now()),
        _ => ("400 Bad Request", String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        if body.starts_with('{') {
            "application/json"
        } else {
            "text/plain"
        },
        body.len()
    );
    (&connection).write_all((head + &body).as_bytes())
}

fn main() -> std::io::Result<()> {
    let state = PathBuf::from(env::var_os("REGROW_STATE").unwrap_or_else(|| ".".into()));
    let heard = Arc::new(Heard::new(state.join("heard.log")));
    let listener = TcpListener::bind(ADDRESS)?;
    println!("uptime {VERSION} listens on {ADDRESS}");
    for connection in listener.incoming() {
        let (heard, connection) = (Arc::clone(&heard), connection?);
        thread::spawn(move || {
            if let Err(error) = serve(&heard, connection) {
                eprintln!("a request was cut: {error}");
            }
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(name: &str) -> Heard {
        let path = env::temp_dir().join(format!("uptime-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Heard::new(path)
    }

    #[test]
    fn who_was_not_heard_of_for_long_is_silent() {
        let heard = fresh("silent");
        answer(&heard, "POST", "/alive/mail", 100);
        answer(&heard, "POST", "/alive/web", 100);
        answer(&heard, "POST", "/alive/web", 190);
        assert_eq!(answer(&heard, "GET", "/silent/60", 200).1, "mail\n");
    }

    #[test]
    fn a_name_cannot_break_the_file() {
        assert_eq!(
            answer(&fresh("name"), "POST", "/alive/a b\nc", 1).0,
            "404 Not Found"
        );
    }

    #[test]
    fn health_names_the_version() {
        assert!(answer(&fresh("health"), "GET", "/health", 1)
            .1
            .contains("\"version\": \""));
    }
}
