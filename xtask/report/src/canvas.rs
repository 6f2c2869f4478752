//! Canvas of a figure: its title, areas below each other, colours.

use plotters::{coord::Shift, prelude::*};

use crate::chart::DrawingError;

/// Part of a figure.
pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws a figure with a title, and an area of each height below it.
pub(crate) fn canvas(
    title: &str,
    heights: &[u32],
    draw: impl FnOnce(&[Area<'_>]) -> Result<(), DrawingError>,
) -> String {
    let mut svg = String::new();
    let height = TITLE_HEIGHT + heights.iter().sum::<u32>();
    let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
    let drawn = root
        .fill(&WHITE)
        .map_err(DrawingError::from)
        .and_then(|()| {
            let mut rest = root.titled(title, ("sans-serif", 16))?;
            let mut areas = Vec::new();
            for height in heights {
                let (area, below) = rest.split_vertically(*height);
                areas.push(area);
                rest = below;
            }
            draw(&areas)?;
            Ok(root.present()?)
        });
    drawn.expect("a string takes every figure");
    drop(root);
    svg
}

/// Colour of the nth of the others.
pub(crate) fn colour(nth: usize) -> RGBColor {
    PEERS[nth % PEERS.len()]
}

/// Colour that stands out.
pub(crate) const OURS: RGBColor = RGBColor(0xc2, 0x41, 0x0c);

const PEERS: [RGBColor; 6] = [
    RGBColor(0x47, 0x55, 0x69),
    RGBColor(0x25, 0x63, 0xeb),
    RGBColor(0x0d, 0x94, 0x88),
    RGBColor(0x93, 0x33, 0xea),
    RGBColor(0xca, 0x8a, 0x04),
    RGBColor(0xdb, 0x27, 0x77),
];

pub(crate) const WIDTH: u32 = 720;
const TITLE_HEIGHT: u32 = 40;
