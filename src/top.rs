//! `tollgate top`: a live table of what passes through a proxy, sorted by what hurts.

pub mod poll;
pub mod screen;
pub mod table;

pub use table::{Row, Series, render};

use anyhow::{Context as _, bail};
use screen::{Screen, plain, terminal_width};
use std::{io::Write as _, time::Duration};
use table::{clip, rates};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What to show, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the proxy's admin interface is, `host:port`.
    pub admin: String,
    /// How long one table counts. At least a tenth of a second.
    pub interval: Duration,
    /// Show this many tables, then end; `None` goes on until told to stop.
    pub tables: Option<u64>,
    /// What the first line calls it.
    pub title: String,
}

/// Shows the operations of the proxy whose admin interface is at `admin`, `host:port`, in a table
/// that is drawn anew each `interval`; with `once` a single one. Ends with `q` and with Ctrl-C.
/// Fails if `once` is given and the admin interface does not answer.
pub async fn top(admin: &str, once: bool, interval: Duration) -> anyhow::Result<()> {
    let admin = admin.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let title = format!("tollgate top  {}", values::hide(&admin));
    let options = Options { admin, interval, tables: once.then_some(1), title };
    show(options, CancellationToken::new()).await
}

/// Shows tables until told to stop, by `until`, by `q` or by Ctrl-C, which also cancels `until`.
pub async fn show(options: Options, until: CancellationToken) -> anyhow::Result<()> {
    let interval = options.interval.max(Duration::from_millis(100));
    let mut screen = match options.tables {
        None => Screen::open(&until),
        Some(_) => None,
    };
    let work = async {
        let mut before = poll::operations(&options.admin).await.map(|now| (Instant::now(), now));
        let mut shown = 0;
        while options.tables.is_none_or(|tables| shown < tables) {
            let page = match &before {
                Err(problem) if options.tables.is_some() => {
                    bail!("no answer from {}: {problem:#}", options.admin)
                }
                Err(problem) => Some(absent(&options, problem)),
                // At first there is nothing to compare with, and a screen that waits says so.
                Ok(_) if shown == 0 => screen.is_some().then(|| waiting(&options)),
                Ok(_) => None,
            };
            if let Some(page) = page {
                draw(&mut screen, &page)?;
            }
            tokio::time::sleep(interval).await;
            let now = poll::operations(&options.admin).await.map(|now| (Instant::now(), now));
            if let (Ok((then, earlier)), Ok((at, later))) = (&before, &now) {
                let seconds = at.duration_since(*then).as_secs_f64();
                let rows = rates(earlier, later, seconds);
                let colour = screen.as_ref().is_some_and(Screen::colour);
                let width = terminal_width();
                let head = headline(&options.title, &rows, screen.is_some(), width);
                draw(&mut screen, &format!("{head}\n\n{}", render(&rows, width, colour)))?;
                shown += 1;
            }
            before = now;
        }
        Ok(())
    };
    tokio::select! {
        result = work => result,
        () = until.cancelled() => Ok(()),
        () = interrupted() => { until.cancel(); Ok(()) }
    }
}

/// Draws a page on the screen or, without one, writes it.
fn draw(screen: &mut Option<Screen>, page: &str) -> anyhow::Result<()> {
    match screen {
        Some(screen) => screen.draw(page),
        None => plain(page),
    }
    .context("the terminal is gone")
}

fn absent(options: &Options, problem: &anyhow::Error) -> String {
    let line = format!("no answer from {}: {problem:#}; trying again", options.admin);
    format!("{}\n\n{}", options.title, clip(&values::hide(&line), terminal_width()))
}

fn waiting(options: &Options) -> String {
    format!("{}\n\ncounting…", options.title)
}

/// The first line: everything together.
fn headline(title: &str, rows: &[Row], keys: bool, width: usize) -> String {
    // Not `sum`, which gives -0 for no rows at all.
    let (operations, errors) = rows.iter().fold((0.0, 0.0), |(operations, errors), row| {
        (operations + row.operations, errors + row.errors)
    });
    let share = if operations > 0.0 { 100.0 * errors / operations } else { 0.0 };
    let numbers = format!("   {operations:.0} ops/s   {share:.1}% errors");
    let quit = if keys { "   q quits" } else { "" };
    let whole = format!("{title}{numbers}{quit}");
    if whole.chars().count() <= width {
        return clip(&whole, width);
    }
    // The numbers are what people look for, so they are the last to go.
    let room = width.saturating_sub(numbers.chars().count());
    clip(&format!("{}{numbers}", clip(title, room)), width)
}

/// Ctrl-C, or the signal that asks to end.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        result = tokio::signal::ctrl_c() => if result.is_err() { std::future::pending().await },
        () = terminated => {}
    }
}

/// Writes what passed through a proxy in all, as a plain table.
pub async fn summary(admin: &str, title: &str, elapsed: Duration) -> anyhow::Result<()> {
    let now = poll::operations(admin).await?;
    let rows = rates(&[], &now, elapsed.as_secs_f64());
    let operations: u64 = now.iter().map(|series| series.count).sum();
    let errors: u64 = now.iter().map(|series| series.errors).sum();
    let mut out = std::io::stdout().lock();
    let seconds = elapsed.as_secs_f64();
    writeln!(out, "{title}: {operations} operations in {seconds:.1} s, {errors} errors\n")?;
    writeln!(out, "{}", render(&rows, terminal_width(), false))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_table_of_a_proxy_that_is_away_is_an_error_that_names_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error =
            top(&format!("http://{admin}/"), true, Duration::from_secs(1)).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("no answer from {admin}: ")), "{error}");
    }

    #[tokio::test]
    async fn tables_end_when_told_even_if_nobody_answers() {
        let until = CancellationToken::new();
        until.cancel();
        let options = Options {
            admin: "127.0.0.1:1".to_owned(),
            interval: Duration::from_secs(3600),
            tables: None,
            title: String::new(),
        };
        show(options, until).await.unwrap();
    }

    #[test]
    fn the_first_line_sums_up() {
        let row = Row { operations: 50.0, errors: 1.0, ..Row::default() };
        let line = headline("top", &[row.clone(), row], true, 80);
        assert_eq!(line, "top   100 ops/s   2.0% errors   q quits");
        assert_eq!(headline("top", &[], false, 80), "top   0 ops/s   0.0% errors");
    }

    #[test]
    fn the_first_line_keeps_its_numbers_where_there_is_little_room() {
        let row = Row { operations: 50.0, errors: 1.0, ..Row::default() };
        let line = headline("tollgate top  127.0.0.1:9901", &[row], true, 40);
        assert_eq!(line, "tollgate top  …   50 ops/s   2.0% errors");
        for width in 0..60 {
            assert!(headline("a title", &[], true, width).chars().count() <= width, "{width}");
        }
    }
}
