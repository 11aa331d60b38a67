//! `cloister runners`: shows the runners, drains one, and takes it back.

use std::io::{Write, stdout};

use anyhow::Context;
use clap::{Args, Subcommand, builder::BoolishValueParser};
use cloister_api::{RunnerInfo, RunnerList, RunnerOrder};
use hyper::{Method, Uri};
use serde::Deserialize;
use serde_json::Value;

use super::{
    api::{Api, Call},
    fleet,
    server::Connection,
    terminal::{Progress, Screen},
    text,
};

/// `cloister runners`
#[derive(Args, Clone, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Where stdout is not a terminal, or with --json, each runner is a JSON object on a line \
    of its own."
)]
pub(crate) struct Runners {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print JSON, one runner a line
    #[arg(long, env = "CLOISTER_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// Give a runner nothing new; what it has goes on
    Drain(Target),
    /// Give a runner work again
    Resume(Target),
}

#[derive(Args, Clone, Debug)]
struct Target {
    /// The runner's URL, or its host, with the port where several runners share it
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    connection: Connection,
}

/// Not as runners of this version: a newer coordinator's fields are passed on too.
#[derive(Deserialize)]
struct Raw {
    runners: Vec<Value>,
}

impl Runners {
    pub(super) async fn run(&self) -> anyhow::Result<u8> {
        match &self.action {
            None => self.show().await,
            Some(Action::Drain(target)) => target.order("/runners/drain").await,
            Some(Action::Resume(target)) => target.order("/runners/resume").await,
        }
    }

    async fn show(&self) -> anyhow::Result<u8> {
        let api = Api::new(&self.connection)?;
        let shown = match Screen::of_stdout() {
            Some(screen) if !self.json => fleet::table(&list(&api).await?, screen),
            screen => {
                let list: Raw = api.call(&Call::new(Method::GET, "/runners")).await?;
                let lines = list.runners.iter().map(|runner| {
                    let json = runner.to_string();
                    let json = if screen.is_some() { text::json(&json) } else { json };
                    json + "\n"
                });
                lines.collect()
            }
        };
        let mut out = stdout().lock();
        out.write_all(shown.as_bytes())
            .and_then(|()| out.flush())
            .context("stdout cannot be written")?;
        Ok(0)
    }
}

impl Target {
    async fn order(&self, path: &str) -> anyhow::Result<u8> {
        let api = Api::new(&self.connection)?;
        let runner = find(&self.name, &list(&api).await?)?;
        let told: RunnerInfo = api.call(&Call::order(path, &RunnerOrder { runner })?).await?;
        if Progress::new().is_seen() {
            eprintln!("{}", said(&told));
        }
        Ok(0)
    }
}

async fn list(api: &Api) -> anyhow::Result<Vec<RunnerInfo>> {
    let list: RunnerList = api.call(&Call::new(Method::GET, "/runners")).await?;
    Ok(list.runners)
}

/// What became of an order.
fn said(runner: &RunnerInfo) -> String {
    let name = text::plain(&runner.url);
    match (runner.drained, runner.running) {
        (false, _) => format!("runner {name} gets work again"),
        (true, 0) => format!("runner {name} is drained and has no job"),
        (true, 1) => format!("runner {name} gets nothing new; the job that it has goes on"),
        (true, count) => format!("runner {name} gets nothing new; the {count} jobs it has go on"),
    }
}

/// The URL of the one runner that is called so.
fn find(name: &str, runners: &[RunnerInfo]) -> anyhow::Result<String> {
    let wanted = name.trim_end_matches('/');
    let exact = runners.iter().find(|runner| runner.url.trim_end_matches('/') == wanted);
    if let Some(runner) = exact {
        return Ok(runner.url.clone());
    }
    let named: Vec<_> = runners.iter().filter(|runner| is_called(&runner.url, wanted)).collect();
    let urls = |of: &mut dyn Iterator<Item = &RunnerInfo>| {
        let urls: Vec<_> = of.map(|runner| text::plain(&runner.url)).collect();
        urls.join(", ")
    };
    let name = text::plain(name);
    match named[..] {
        [runner] => Ok(runner.url.clone()),
        [] if runners.is_empty() => anyhow::bail!("the coordinator knows no runner"),
        [] => {
            anyhow::bail!("no runner is called {name}; there are {}", urls(&mut runners.iter()))
        }
        _ => {
            let urls = urls(&mut named.into_iter());
            anyhow::bail!("{name} could be any of {urls}; write its host and port, or its URL")
        }
    }
}

/// Whether `name` is the host of this URL, with or without its port, or as many of the first labels of
/// a host that has a name. Not any part of it: 10.0.0.1 must never mean 10.0.0.10.
fn is_called(url: &str, name: &str) -> bool {
    let Some(authority) = url.parse::<Uri>().ok().and_then(|uri| uri.into_parts().authority) else {
        return false;
    };
    let host = authority.host();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_address = bare.parse::<std::net::IpAddr>().is_ok();
    let begins = || host.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
    let same = |a: &str| a.eq_ignore_ascii_case(name);
    same(authority.as_str()) || same(host) || same(bare) || (!is_address && begins())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runners(urls: &[&str]) -> Vec<RunnerInfo> {
        let runner = |url: &&str| RunnerInfo {
            url: (*url).into(),
            up: true,
            listed: true,
            running: 0,
            drained: false,
            breaker: "closed".into(),
            opens_until: None,
            trouble: None,
            clock_skew_ms: None,
            clock_uncertainty_ms: None,
            failed_cells: 0,
            failed_cells_in_a_row: 0,
            health: None,
        };
        urls.iter().map(runner).collect()
    }

    #[test]
    fn a_runner_is_called_by_what_is_its_own() {
        let all = runners(&[
            "http://10.0.0.10:8080",
            "http://10.0.0.7:8080",
            "http://10.0.0.7:8081",
            "http://node-1.cells.example:8080",
            "http://node-12.cells.example:8080",
            "http://[fd00::7]:8080",
        ]);
        for (name, url) in [
            ("http://10.0.0.7:8080", 1),
            ("http://10.0.0.7:8080/", 1),
            ("10.0.0.7:8081", 2),
            ("10.0.0.10", 0),
            ("node-1", 3),
            ("node-1.cells", 3),
            ("NODE-12.cells.example", 4),
            ("fd00::7", 5),
            ("[fd00::7]:8080", 5),
        ] {
            assert_eq!(find(name, &all).unwrap(), all[url].url, "{name}");
        }
        for name in ["10.0.0.1", "10.0.0", "8080", "node", "http://10.0.0.7", ""] {
            let error = find(name, &all).unwrap_err().to_string();
            assert!(error.starts_with("no runner is called"), "{name}: {error}");
            assert!(error.contains("http://[fd00::7]:8080"), "{error}");
        }
        let error = find("10.0.0.7", &all).unwrap_err().to_string();
        let expected = "10.0.0.7 could be any of http://10.0.0.7:8080, http://10.0.0.7:8081; write its \
                        host and port, or its URL";
        assert_eq!(error, expected);
        assert_eq!(find("a", &[]).unwrap_err().to_string(), "the coordinator knows no runner");
    }
}
