//! Drawing lines.

use std::path::Path;

use anyhow::anyhow;
use plotters::{
    coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter},
    prelude::*,
};

use crate::report::round;

const SIZE: (u32, u32) = (900, 520);
/// One for each pair of lines: a p50 and its p99 have the same, and the latter is thinner.
const COLOURS: [RGBColor; 4] = [
    RGBColor(0x1b, 0x6e, 0xc2),
    RGBColor(0x2a, 0x9d, 0x6f),
    RGBColor(0x77, 0x77, 0x77),
    RGBColor(0xc4, 0x4e, 0x1f),
];

/// A line, with its points from left to right.
pub(crate) struct Line {
    /// As it is called in the legend.
    pub(crate) name: String,
    /// What is counted, and milliseconds.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Milliseconds by how many are made at once, both axes logarithmic. p50 and p99 alternate.
pub(crate) fn concurrency(file: &Path, lines: &[Line]) -> anyhow::Result<()> {
    let (least, most) = bounds(lines);
    let across = (1.0..64.0).log_scale().base(2.0);
    let up = (least * 0.8..most * 1.3).log_scale();
    draw(file, "A launch of /bin/true, ms, by how many are made at once", across, up, lines)
}

/// Milliseconds by launches so far. p50 and p99 alternate.
pub(crate) fn flat(file: &Path, lines: &[Line]) -> anyhow::Result<()> {
    let (_, most) = bounds(lines);
    let ends = lines.iter().filter_map(|line| line.points.last()).map(|point| point.0);
    let across = 0.0..ends.fold(1.0, f64::max);
    // From 0: growth is then as large as it looks.
    let up = 0.0..most * 1.1;
    draw(file, "A launch of /bin/true, ms, by launches so far", across, up, lines)
}

/// The least and the most milliseconds.
fn bounds(lines: &[Line]) -> (f64, f64) {
    let all = || lines.iter().flat_map(|line| &line.points).map(|point| point.1);
    (all().fold(f64::INFINITY, f64::min).max(1e-3), all().fold(1e-2, f64::max))
}

fn draw<X, Y>(file: &Path, caption: &str, across: X, up: Y, lines: &[Line]) -> anyhow::Result<()>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let failed =
        |error: &dyn std::fmt::Display| anyhow!("drawing {} failed: {error}", file.display());
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&root)
        .caption(caption, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(56)
        .build_cartesian_2d(across, up)
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .x_label_formatter(&|value| round(*value))
        .y_label_formatter(&|value| round(*value))
        .light_line_style(WHITE)
        .draw()
        .map_err(|error| failed(&error))?;
    for (number, line) in lines.iter().enumerate() {
        let colour = COLOURS[number / 2 % COLOURS.len()];
        let style = colour.stroke_width(if number % 2 == 0 { 3 } else { 1 });
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), style))
            .map_err(|error| failed(&error))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()
        .map_err(|error| failed(&error))?;
    root.present().map_err(|error| failed(&error))
}
