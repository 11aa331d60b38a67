//! Reading what jobs write, at the pace of those who take it.

use super::Supervisor;
use crate::{
    engine::{Stream, streams::Flow},
    error::{Fault, Step},
    wire::CellId,
};

impl Supervisor {
    /// Takes a turn's worth of a stream. One that its observer has no room for is not watched until it
    /// has: it would be told again and again.
    pub(super) fn capture(&mut self, id: CellId, stream: Stream) {
        let Some(cell) = self.cells.get_mut(&id) else { return };
        let flow = cell.capture(stream, &self.sink, &mut self.buffer, false);
        if let (Flow::Waits, Some(handles)) = (flow, &cell.handles) {
            let pipe = match stream {
                Stream::Stdout => &handles.stdout,
                Stream::Stderr => &handles.stderr,
            };
            if let Some(pipe) = pipe {
                self.watch.ignore(pipe);
            }
        }
    }

    /// Reads on what had to wait.
    pub(super) fn resume(&mut self, id: CellId) {
        let Some(cell) = self.cells.get_mut(&id) else { return };
        for stream in cell.waiting() {
            let flow = cell.capture(stream, &self.sink, &mut self.buffer, false);
            let Some(handles) = &cell.handles else { return };
            if flow != Flow::Waits
                && let Err(error) = self.watch.add_output(id, handles, stream)
            {
                cell.fail(Fault::new(Step::Adopt, &error.into()));
                self.end(id);
                return;
            }
        }
    }
}
