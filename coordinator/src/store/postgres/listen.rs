//! Telling other coordinators that something came to the inbox, and being told so: LISTEN and NOTIFY,
//! on a connection of their own. A notification is worth nothing but time: whoever waits looks now and
//! then all the same, and so a lost one is made up for.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_postgres::{AsyncMessage, Client};

use super::{
    super::news::News,
    connect::{CALL, Manager, Messages},
};

/// Those who submit within this time are told of together: commits that notify wait for each other.
const TOGETHER: Duration = Duration::from_millis(5);
/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The connection. Dropping it ends it.
pub(super) struct Listener {
    wanted: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Has `news` told of whatever anybody puts in.
    pub(super) fn start(manager: Manager, news: Arc<News>) -> Self {
        let wanted = Arc::new(Notify::new());
        let task = tokio::spawn(keep_listening(manager, news, Arc::clone(&wanted)));
        Self { wanted, task }
    }

    /// Something was put in, and is committed.
    pub(super) fn tell_others(&self) {
        self.wanted.notify_one();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_listening(manager: Manager, news: Arc<News>, wanted: Arc<Notify>) {
    loop {
        let ended = match timeout(CALL, manager.connect()).await {
            Ok(Ok((client, messages))) => listen(client, messages, &news, &wanted).await,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it gave no answer".into(),
        };
        tracing::debug!(why = ended, "hearing of no submissions to others until connected again");
        sleep(AGAIN).await;
    }
}

/// Returns why it ended.
async fn listen(client: Client, mut messages: Messages, news: &News, wanted: &Notify) -> String {
    // The connection is what reads, also the answers to the client.
    let reading = async {
        loop {
            match messages.next().await {
                Some(Ok(AsyncMessage::Notification(_))) => news.tell(),
                Some(Ok(_)) => {}
                Some(Err(error)) => return error.to_string(),
                None => return "it was closed".into(),
            }
        }
    };
    let telling = async {
        let run = |sql: &'static str| timeout(CALL, client.batch_execute(sql)).map(answer);
        if let Err(why) = run("LISTEN cloister_inbox").await {
            return why;
        }
        // What came before nobody was told of.
        news.tell();
        loop {
            wanted.notified().await;
            sleep(TOGETHER).await;
            if let Err(why) = run("NOTIFY cloister_inbox").await {
                // On the next connection then.
                wanted.notify_one();
                return why;
            }
        }
    };
    tokio::select! { why = reading => why, why = telling => why }
}

fn answer<E>(result: Result<Result<(), tokio_postgres::Error>, E>) -> Result<(), String> {
    match result {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it gave no answer".into()),
    }
}
