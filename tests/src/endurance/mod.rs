//! Many jobs, and what they leave and do to each other: the parts of the program `endurance`. Each
//! function is one of its commands, and starts and ends the services that it needs.

mod crew;
mod descriptors;
mod hostile;
mod jobs;
mod memory;
mod neighbours;
mod program;
mod report;
mod scrapes;
mod times;

pub use self::{
    descriptors::{Descriptors, descriptors},
    jobs::{Jobs, Target, jobs},
    neighbours::{Neighbours, neighbours},
    report::Report,
    scrapes::{Scrapes, scrapes},
};
