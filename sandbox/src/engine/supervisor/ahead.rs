//! Cells without a job: those that wait for one, and those whose job has ended.
//!
//! A cell takes milliseconds to make and to take away, and a job need wait for neither. One that was
//! made ahead has all its layers and limits already and waits in the last step, for its command; it is
//! for one job, like any other. And a job has ended when nothing of it is left: that its PID 1, which is
//! ours, has yet to take the namespaces down, is nothing that its result has to wait for.

use std::{os::fd::OwnedFd, sync::atomic::Ordering, time::Duration};

use super::{
    Alarm, Handles, Source, Supervisor,
    alarms::{LAUNCH_PATIENCE, after},
};
use crate::{
    engine::{handles::kill_by, spares::Spares},
    wire::{CellId, Request, Sizes},
};

/// Under this number the alarms of all of them are set: cells count from 1.
const NO_CELL: CellId = 0;
/// How long after a job cells are made again: so that they do not take the job's time, nor that of the
/// next one, where jobs come one after the other.
const SETTLING: Duration = Duration::from_millis(2);
/// How long a cell waits, about, that no job needs.
const REST: Duration = Duration::from_secs(10);
/// How many cells may be going whose jobs were told to have ended: each holds a little memory yet, which
/// the next jobs can't have. Beyond it a job has ended when its cell has.
const MAX_LEAVING: usize = 16;

/// What is held of a cell whose job was told to have ended.
pub(super) struct Leaving {
    /// Watched.
    _pidfd: OwnedFd,
    kill: Option<OwnedFd>,
}

impl Supervisor {
    /// Soon there is a cell to be made for the next job, or one that has to go.
    pub(super) fn refill_soon(&mut self) {
        if !self.timers.is_set(NO_CELL, Alarm::Refill) {
            self.timers.set(NO_CELL, Alarm::Refill, after(SETTLING));
        }
    }

    /// Whether the launcher has cells to make for which jobs wait.
    fn is_busy(&self) -> bool {
        !self.waiting.is_empty() || self.line.preparing() > self.pool.with(|spares| spares.coming())
    }

    /// The launcher has answered: if that was the last job's cell, the next jobs' have their turn.
    pub(super) fn refill_when_idle(&mut self) {
        if self.pool.with(|spares| spares.is_short()) && !self.is_busy() {
            self.refill_soon();
        }
    }

    /// Has the launcher make what is missing, unless it is busy: then what it answers leads back here.
    pub(super) fn refill(&mut self) {
        while let Some(spare) = self.pool.with(Spares::surplus) {
            self.watch.ignore(&spare.held.pidfd);
            self.release(spare.cell);
        }
        while !self.is_busy()
            && let Some(sizes) = self.pool.with(Spares::next)
        {
            let cell = self.next.fetch_add(1, Ordering::Relaxed);
            let request = Request::Prepare { cell, sizes, host_network: false, stdio: false };
            let asked = self.line.turn().is_some_and(|turn| turn.ask(&request, &[]).is_ok());
            if !asked {
                return;
            }
            self.pool.with(|spares| spares.ordered(cell, sizes));
        }
        if !self.pool.with(|spares| spares.is_idle()) && !self.timers.is_set(NO_CELL, Alarm::Rest) {
            self.timers.set(NO_CELL, Alarm::Rest, after(REST));
        }
    }

    /// Lets those go that nobody has needed for a while.
    pub(super) fn rest(&mut self) {
        self.pool.with(Spares::rest);
        self.refill();
    }

    /// A cell that was to be made ahead is there.
    pub(super) fn keep(&mut self, cell: CellId, sizes: Sizes, handles: Handles) {
        if self.watch.add(cell, &handles).is_ok() {
            self.pool.with(|spares| spares.add(cell, sizes, handles));
            self.refill();
        } else {
            self.lose_spare(cell);
        }
    }

    /// A cell that was to be made ahead was not, or has ended.
    pub(super) fn lose_spare(&mut self, cell: CellId) {
        self.pool.with(|spares| {
            spares.arrived(cell);
            spares.give_up();
        });
        self.release(cell);
    }

    /// The cell that a job took died before it had read the command: a new one is made for the job.
    pub(super) fn begin_anew(&mut self, id: CellId) {
        self.timers.clear(id);
        let Some(mut cell) = self.cells.remove(&id) else { return };
        let new = self.next.fetch_add(1, Ordering::Relaxed);
        cell.begin_anew(new);
        self.cells.insert(new, cell);
        self.waiting.push_back(new);
        self.lose_spare(id);
        self.prepare_waiting();
    }

    /// Tells that a job has ended, of which nothing is left; its cell goes by itself.
    pub(super) fn conclude_early(&mut self, id: CellId) {
        if self.leaving.len() >= MAX_LEAVING {
            return;
        }
        self.timers.clear(id);
        self.jobs.ended(id);
        let Some(cell) = self.cells.remove(&id) else { return };
        let held = cell.conclude(&self.sink, &mut self.buffer, self.not_enforced.clone());
        let Some(handles) = held else { return };
        // Their end would be told again and again: also once they are closed here, for as long as the
        // launcher has yet to close its own.
        let Handles { control, pidfd, stdin, stdout, stderr, kill, oom, .. } = handles;
        for told in [Some(control), stdin, stdout, stderr, oom].iter().flatten() {
            self.watch.ignore(told);
        }
        self.timers.set(id, Alarm::Leave, after(LAUNCH_PATIENCE));
        self.leaving.insert(id, Leaving { _pidfd: pidfd, kill });
    }

    /// Something was heard of a cell that has no job.
    pub(super) fn hear_empty(&mut self, id: CellId, source: Source) {
        if source != Source::Pidfd {
            return;
        }
        if self.leaving.remove(&id).is_some() {
            self.timers.clear(id);
            self.release(id);
        } else if self.pool.with(|spares| spares.remove(id)).is_some() {
            self.lose_spare(id);
        }
    }

    /// A cell that should be gone is killed.
    pub(super) fn hasten(&mut self, id: CellId) {
        let Some(leaving) = self.leaving.get(&id) else { return };
        if !kill_by(leaving.kill.as_ref()) {
            self.line.kill(id);
        }
    }

    /// Lets the launcher take a cell away.
    pub(super) fn release(&self, id: CellId) {
        self.line.release(id);
    }
}
