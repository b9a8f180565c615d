//! What the example claims, on a small run; and its page.

use crate::recipe::{PLAIN, Recipe};
use crate::run::Request;
use crate::summary::Summary;
use crate::{Cli, print, recipes, report, request, run};
use clap::Parser;
use firebrick_examples::data::Data;
use firebrick_examples::output::usage;
use std::path::Path;

fn run(
    labels: Vec<usize>,
    steps: usize,
    draws: usize,
    names: &[&str],
    out: &Path,
    resume: bool,
) -> Summary {
    let recipes: Vec<Recipe> =
        Recipe::all().into_iter().filter(|recipe| names.contains(&recipe.name)).collect();
    assert_eq!(recipes.len(), names.len());
    let cli = Cli::try_parse_from(["few"]).expect("parses");
    let out = out.to_owned();
    let request = Request { labels, steps, draws, out, resume, ..request(&cli).expect("valid") };
    let data = Data::load(None).expect("embedded");
    let device = request.backend.open().expect("flex is always there").autodiff();
    run::run(&request, &recipes, &data, &device).expect("trains")
}

#[test]
fn the_best_recipe_beats_plain_training_by_a_margin_that_holds_at_95_percent() {
    let folder = tempfile::tempdir().expect("a folder");
    let names = [PLAIN, "UDA"];
    let summary = run(vec![5], 800, 2, &names, folder.path(), false);
    let best = &summary.best;
    // The interval is over the folds that the recipe was not chosen on; it is wider than their spread by the rows they
    // share.
    assert!(best.margin > 0.01, "{best:?}");
    assert_eq!(best.gain.values.len(), 4);
    assert!(best.gain.values.iter().all(|gain| *gain < 0.0), "in every fold: {best:?}");
}

#[test]
fn a_resumed_run_trains_nothing_again_and_the_page_holds_what_was_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let names =
        [PLAIN, "L2", "Jacobian", "GELU network", "augmentation", "UDA", "skewed", "down-sampled"];
    let first = run(vec![2, 3], 6, 2, &names, folder.path(), false);
    let again = run(vec![2, 3], 6, 2, &names, folder.path(), true);
    let text = |summary: &Summary| {
        serde_json::to_string(&summary.clone().with_seconds(0.0)).expect("writes")
    };
    assert_eq!(text(&first), text(&again));
    let fresh = run(vec![2, 3], 6, 2, &names, folder.path(), false);
    assert_eq!(text(&first), text(&fresh), "the same seed, the same numbers");

    let row = |name: &str| first.row(name).expect("compared");
    for (at, labels) in [2, 3].into_iter().enumerate() {
        // Six steps of all labelled rows, two or three a digit, for the method as for its baseline.
        let augmented = (6 * 10 * labels) as f64;
        assert_eq!(row("augmentation").cells[at].augmented, augmented);
        assert_eq!(row("UDA").cells[at].augmented, augmented);
        assert_eq!(row("L2").cells[at].augmented, 0.0);
        for (name, against) in [("Jacobian", "GELU network"), ("UDA", "augmentation")] {
            let over = row(name).cells[at].over_against.as_ref().expect("compared");
            let (own, other) = (&row(name).cells[at].error, &row(against).cells[at].error);
            for (over, (own, other)) in over.values.iter().zip(own.values.iter().zip(&other.values))
            {
                assert_eq!(*over, own - other);
            }
        }
    }

    let page = report::html(&first);
    for part in ["forest-2", "forest-3", "curve-data", "down-sampled", "UDA", "Other networks"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("NaN") && !page.contains("://"), "whole and without network");
    let printed = print::text(&first, folder.path());
    assert!(printed.contains("L2") && printed.contains("best on the first fold: "), "{printed}");
    assert!(printed.lines().all(|line| line.len() < 160), "{printed}");
}

#[test]
fn bad_arguments_are_one_line() {
    for (arguments, part) in [
        (&["--labels", "0"][..], "`labels` must be ascending numbers from 1 to 100, got [0]"),
        (&["--labels", "5,5"], "ascending"),
        (&["--labels", "500"], "ascending"),
        (&["--labels", "x"], "invalid value 'x'"),
        (&["--recipes", "magic"], "unknown recipe `magic`; known are plain; L2"),
        (&["--recipes", "plain"], "`recipes` must name one besides the plain one"),
        (&["--steps", "0"], "`steps` must be at least 1, got 0"),
        (&["--threads", "0"], "`threads` must be at least 1, got 0"),
        (&["--backend", "tpu"], "unknown back-end `tpu`"),
    ] {
        let failure = match Cli::try_parse_from([&["few"], arguments].concat()) {
            Err(error) => usage(error).expect_err("refused"),
            Ok(cli) => request(&cli).and_then(|_| recipes(&cli.recipes)).expect_err("refused"),
        };
        let message = failure.to_string();
        assert!(message.contains(part), "{arguments:?}: {message}");
        assert_eq!((message.lines().count(), failure.exit_code()), (1, 2), "{message}");
    }
}
