//! The page of walks: one HTML file with its style and its drawings inside.

use crate::plot::Frame;
use crate::runs::Walked;
use crate::surface::{Goal, Surface};
use std::fmt::Write;

const STYLE: &str = "
:root{color-scheme:light dark;--paper:#fcfcfa;--ink:#1d1d1b;--soft:#5c5c58;--line:#c9c9c2;--card:#fff;
--c0:#0b5cad;--c1:#b3261e;--c2:#00715c;--c3:#5c3a21;--c4:#7b2d8b;--c5:#d97706;--c6:#595a00;--c7:#a0195f}
@media(prefers-color-scheme:dark){:root{--paper:#161615;--ink:#ecece6;--soft:#a9a9a2;--line:#4a4a45;--card:#1f1f1d;
--c0:#74b3f5;--c1:#ff8f84;--c2:#4fd0b0;--c3:#b08968;--c4:#d79be8;--c5:#ff9f43;--c6:#d2d35a;--c7:#ff8cc6}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:76rem;padding:1.2rem;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.7rem;line-height:1.2}h2{margin-top:2.4rem;font-size:1.3rem}
p{max-width:44rem}.formula{font-family:ui-monospace,monospace;font-size:.9rem;color:var(--soft);overflow-wrap:anywhere}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,17rem),1fr));gap:1rem}
figure{margin:0;padding:.7rem;background:var(--card);border:1px solid var(--line);border-radius:.4rem}
figure.wide{margin:1rem 0}figure.wide svg{max-width:42rem}
figcaption{font-size:.9rem}figcaption b{display:block}figcaption span{color:var(--soft)}
svg{display:block;width:100%;height:auto;margin-bottom:.4rem}
.contour{fill:none;stroke:var(--line);stroke-width:1}
.walk{fill:none;stroke-width:1.8;stroke-linejoin:round}
.axis{fill:none;stroke:var(--line)}text{fill:var(--soft);font:14px system-ui,sans-serif}
.mark{fill:var(--card);stroke:var(--ink);stroke-width:1.5}
.key{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;font-size:.9rem}.key i{display:inline-block;width:1.2em;height:.25em;margin-right:.4em;vertical-align:middle;background:currentColor}
.key span span{color:var(--ink)}
table{border-collapse:collapse;font-size:.9rem}.scroll{overflow-x:auto}
article{margin:1rem 0;padding:.8rem 1rem;background:var(--card);border:1px solid var(--line);border-radius:.4rem}
article h3{margin:0 0 .2rem;font-size:1.05rem}article p{margin:.3rem 0}article h3 code{margin-left:.5rem;font-weight:normal;color:var(--soft)}
.facts{font-size:.9rem;color:var(--soft)}.facts b{color:var(--ink);font-weight:600}
details{font-size:.9rem}summary{cursor:pointer}nav{columns:12rem;font-size:.95rem}nav a{display:block}a{color:var(--c0)}
code{font-family:ui-monospace,monospace;font-size:.92em}
th,td{padding:.25rem .7rem;text-align:left;border-bottom:1px solid var(--line)}td.n{text-align:right;font-variant-numeric:tabular-nums}
";

/// The start of a page, up to its heading.
pub(crate) fn head(title: &str, heading: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>{title}</title>\n\
         <style>{STYLE}</style></head><body>\n<h1>{heading}</h1>\n"
    )
}

/// The whole page.
pub(crate) fn render(walked: &[(&Surface, Vec<Walked>)]) -> String {
    let mut page = head("Gallery of optimizers", "How the optimizers walk");
    page.push_str(
        "<p>Each picture is one walk over the contour lines of a function, from the ring to the cross. \
         The steps are those after which the value first comes within 0.001 of the least one. \
         The rules are the ones that train networks, run on two numbers.</p>\n",
    );
    for (surface, runs) in walked {
        section(&mut page, surface, runs);
    }
    page.push_str("</body></html>\n");
    page
}

fn section(page: &mut String, surface: &Surface, runs: &[Walked]) {
    let Surface { id, name, formula, lesson, window, .. } = surface;
    let (width, height) = (300.0, 230.0);
    let frame = Frame { window: *window, width, height };
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "<section id=\"{id}\"><h2>{name}</h2>\n<p class=\"formula\">{formula}</p><p>{lesson}</p>\n\
         <svg width=\"0\" height=\"0\" style=\"position:absolute\" aria-hidden=\"true\"><defs>\
         <path id=\"contour-{id}\" d=\"{}\"/><clipPath id=\"clip-{id}\"><rect width=\"{width}\" height=\"{height}\"/></clipPath>\
         </defs></svg>\n<div class=\"grid\">\n",
        frame.contours(surface)
    );
    for run in runs {
        let color = run.color;
        let outcome = run.trajectory.outcome;
        let _ = writeln!(
            page,
            "<figure><svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}: {outcome}\">\
             <g clip-path=\"url(#clip-{id})\"><use href=\"#contour-{id}\" class=\"contour\"/>\
             <path class=\"walk\" style=\"stroke:var(--c{color})\" d=\"{}\"/></g>{}</svg>\
             <figcaption><b>{}</b><span>{outcome}</span></figcaption></figure>",
            run.label,
            frame.line(&run.trajectory.points),
            marks(&frame, surface),
            run.label,
        );
    }
    page.push_str("</div>\n");
    progress(page, surface, runs);
    page.push_str("</section>\n");
}

/// A ring at the start and a cross at the minimum or the saddle.
fn marks(frame: &Frame, surface: &Surface) -> String {
    let [x, y] = frame.place(surface.start);
    let [u, v] = frame.place(match surface.goal {
        Goal::Minimum(minimum) => minimum,
        Goal::Leave => [0.0, 0.0],
    });
    format!(
        "<circle class=\"mark\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>\
         <path class=\"mark\" d=\"M{:.1} {v:.1}h10M{u:.1} {:.1}v10\"/>",
        u - 5.0,
        v - 5.0
    )
}

/// The value against the step, both on logarithmic scales.
fn progress(page: &mut String, surface: &Surface, runs: &[Walked]) {
    let Goal::Minimum(minimum) = surface.goal else { return };
    let least = (surface.value)(minimum);
    let longest = (surface.limit as f64 + 1.0).log10();
    let (low, high) = (-8.0, 4.0);
    let (width, height, inset) = (520.0, 280.0, 44.0);
    let frame =
        Frame { window: [0.0, longest, low, high], width: width - inset, height: height - 30.0 };
    let _ = write!(
        page,
        "<figure class=\"wide\"><svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"Value against step\">\
         <g transform=\"translate({inset} 5)\"><clipPath id=\"chart-{id}\"><rect width=\"{}\" height=\"{}\"/></clipPath>",
        frame.width,
        frame.height,
        id = surface.id
    );
    for power in [-8, -4, 0, 4] {
        let [_, y] = frame.place([0.0, f64::from(power)]);
        let _ = write!(
            page,
            "<path class=\"axis\" d=\"M0 {y:.1}H{}\"/><text x=\"-6\" y=\"{:.1}\" text-anchor=\"end\">1e{power}</text>",
            frame.width,
            y + 4.0
        );
    }
    for power in 0..=longest.floor() as i32 {
        let steps = 10f64.powi(power);
        let [x, _] = frame.place([(steps + 1.0).log10(), 0.0]);
        let _ = write!(
            page,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{steps}</text>",
            frame.height + 16.0
        );
    }
    let _ = write!(page, "<g clip-path=\"url(#chart-{})\">", surface.id);
    for run in runs {
        let color = run.color;
        let points: Vec<[f64; 2]> = run
            .trajectory
            .values
            .iter()
            .enumerate()
            .map(|(step, value)| [(step as f64 + 1.0).log10(), (value - least).max(1e-12).log10()])
            .collect();
        let _ = write!(
            page,
            "<path class=\"walk\" style=\"stroke:var(--c{color})\" d=\"{}\"/>",
            frame.envelope(&points)
        );
    }
    page.push_str("</g></g></svg><figcaption>Value above the least one against the step, both logarithmic.</figcaption><div class=\"key\">");
    for run in runs {
        let color = run.color;
        let _ = write!(
            page,
            "<span style=\"color:var(--c{color})\"><i></i><span>{}</span></span>",
            run.label
        );
    }
    page.push_str("</div></figure>\n");
    steps_table(page, runs);
}

fn steps_table(page: &mut String, runs: &[Walked]) {
    page.push_str(
        "<div class=\"scroll\"><table><tr><th>Optimizer</th><th>Steps</th><th>Ends at</th></tr>\n",
    );
    for run in runs {
        let steps = run.trajectory.outcome;
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td class=\"n\">{steps}</td><td class=\"n\">{}</td></tr>",
            run.label,
            run.trajectory.ends_at()
        );
    }
    page.push_str("</table></div>\n");
}

/// Text as HTML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Checks that every element is closed, that nothing comes from elsewhere, and that no number is nonsense.
#[cfg(test)]
pub(crate) fn is_whole(page: &str) {
    for tag in
        ["svg", "figure", "section", "article", "g", "div", "table", "tr", "td", "details", "p"]
    {
        let open =
            page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(open, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    for external in ["http:", "https:", "src=", "@import", "url(\"", "<script"] {
        assert!(!page.contains(external), "{external}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf "));
    assert!(page.len() < 800_000, "{} bytes", page.len());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surface::SURFACES;

    #[test]
    fn the_page_is_whole_and_needs_no_network() {
        let walked: Vec<(&Surface, Vec<Walked>)> = SURFACES
            .iter()
            .map(|surface| (surface, crate::runs::walk_all(surface).expect("valid")))
            .collect();
        let page = render(&walked);
        let figures: usize = walked.iter().map(|(_, runs)| runs.len() + 1).sum();
        // The saddle has no chart of the value.
        assert_eq!(page.matches("<figure").count(), figures - 1);
        is_whole(&page);
    }
}
