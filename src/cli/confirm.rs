//! The question before an apply. It is asked on the terminal itself, as sudo and ssh ask theirs, so that it is seen and
//! answered by a person wherever the standard streams lead.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use crate::engine::run::Answer;
use crate::engine::stop::Stop;
use crate::host::terminal::Terminal;
use crate::render::output;

/// So long a reader of a pipe has for taking what was printed before the question.
const READERS_TIME: Duration = Duration::from_secs(1);
/// So long it has for showing what it has taken.
const SHOWING_TIME: Duration = Duration::from_millis(100);

/// So long a signal takes at most that comes with the end of the input: a closed terminal sends SIGHUP too.
const SIGNALS_TIME: Duration = Duration::from_millis(50);

/// Asks for a `y` or `yes`. The question stands on a line of its own until it is answered, and nothing else is drawn.
pub async fn confirm(question: &str, stop: &Stop) -> Answer {
    let Ok(terminal) = Terminal::open().map(Arc::new) else { return Answer::NoTerminal };
    output::idle();
    readers_are_done().await;
    let question: Arc<str> = format!("\n{question} [y/N] ").into();
    let mut answer = tokio::select! {
        answer = ask(&terminal, &question) => answer,
        () = stop.asked() => Answer::Stopped,
    };
    if matches!(answer, Answer::None) && timeout(SIGNALS_TIME, stop.asked()).await.is_ok() {
        answer = Answer::Stopped;
    }
    if matches!(answer, Answer::None | Answer::Stopped) {
        // No Enter has ended the question's line.
        let ended = tokio::task::spawn_blocking(move || terminal.write("\n"));
        drop(timeout(SHOWING_TIME, ended).await);
    }
    answer
}

/// The terminal is waited for in threads of their own, which end with the process where the wait is given up.
async fn ask(terminal: &Arc<Terminal>, question: &Arc<str>) -> Answer {
    // Whoever comes back to a stopped job (Ctrl-Z, fg) finds the shell's lines below the question.
    let mut continued = signal(SignalKind::from_raw(nix::libc::SIGCONT)).ok();
    let write = || {
        let (terminal, question) = (Arc::clone(terminal), Arc::clone(question));
        move || terminal.write(&question)
    };
    let first = write();
    let reading = Arc::clone(terminal);
    let mut line = tokio::task::spawn_blocking(move || first().and_then(|()| reading.read_line()));
    loop {
        let continues = async {
            match &mut continued {
                Some(signals) => signals.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            line = &mut line => return match line {
                Ok(Ok(Some(line))) if matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes") => Answer::Yes,
                Ok(Ok(Some(_))) => Answer::No,
                _ => Answer::None,
            },
            _ = continues => drop(tokio::task::spawn_blocking(write())),
        }
    }
}

/// What is read from a pipe may be shown on the same terminal (`apply | tee log`): the question comes after it.
async fn readers_are_done() {
    if !output::is_piped() {
        return;
    }
    let begun = Instant::now();
    while output::is_unread() && begun.elapsed() < READERS_TIME {
        sleep(Duration::from_millis(5)).await;
    }
    sleep(SHOWING_TIME).await;
}
