//! Files that are wrong, damaged or hostile: a typed error each, and the model as it was.

use burn::nn::LinearConfig;
use burn::tensor::Device;

use super::super::{
    Checkpoint, Head, InputChannels, Layout, LoadConfig, LoadError, Positions, Problem,
};
use super::{Bare, Small, bits, file, references, safetensors, saved, unhex};

/// What opening, planning and applying says of these bytes, and that the model is untouched.
fn refused(bytes: &[u8], config: &LoadConfig) -> LoadError {
    let (_folder, path) = file(bytes);
    let mut model = Small::new(3, 5);
    let before = bits(&model);
    let outcome = Checkpoint::open(&path)
        .and_then(|file| config.plan(&file, &model))
        .and_then(|plan| plan.apply(&mut model));
    assert_eq!(bits(&model), before, "the model was touched");
    outcome.expect_err("it was accepted")
}

fn good() -> Vec<u8> {
    unhex(&references()["network"]["safetensors"])
}

#[test]
fn what_is_no_file_of_weights() {
    let config = LoadConfig::new();
    assert!(matches!(refused(b"", &config), LoadError::Empty { .. }));
    assert!(matches!(refused(b"hello, world", &config), LoadError::UnknownFormat { .. }));
    assert!(matches!(Checkpoint::open("/no/such/file"), Err(LoadError::Io { .. })));
    assert!(matches!(Checkpoint::open(std::env::temp_dir()), Err(LoadError::Io { .. })));
    let none = safetensors(&[], None);
    assert!(matches!(refused(&none, &config), LoadError::NoTensors { .. }));
}

#[test]
fn pickles_with_code_are_refused_and_not_run() {
    let references = references();
    let cases = references["evil"].as_array().expect("cases");
    assert_eq!(cases.len(), 6);
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let error = refused(&unhex(&case["bytes"]), &LoadConfig::new());
        let LoadError::PickleCode { names, .. } = error else { panic!("{name}: {error}") };
        let expected = match name {
            "whole module" => "torch.nn.modules.linear.Linear",
            "call whose result is dropped" => "builtins.exec",
            _ => "posix.system",
        };
        assert!(names.iter().any(|found| found == expected), "{name}: {names:?}");
    }
    // What the recorded calls would make, had they run; the path stands in their bytes, so it cannot be another folder.
    assert!(!std::path::Path::new("/tmp/firebrick-transfer-was-run").exists());
}

#[test]
fn a_whole_module_is_read_as_data_once_its_classes_are_named() {
    let (_folder, path) = file(&unhex(&references()["network"]["module"]));
    let Err(LoadError::PickleCode { names, .. }) = Checkpoint::open(&path) else {
        panic!("not refused")
    };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let opened = Checkpoint::open_allowing(&path, &names).expect("allowed");
    let mut model = Small::new(3, 5);
    LoadConfig::new().plan(&opened, &model).expect("a plan").apply(&mut model).expect("applied");
}

#[test]
fn every_truncation_and_every_flipped_byte_ends_in_an_error_or_in_a_whole_model() {
    let references = references();
    for form in ["safetensors", "zip", "legacy"] {
        let bytes = unhex(&references["network"][form]);
        for length in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
            refused(&bytes[..length], &LoadConfig::new());
        }
        for place in (0..bytes.len()).step_by(61) {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x55;
            let (_folder, path) = file(&damaged);
            let mut model = Small::new(3, 5);
            let before = bits(&model);
            let outcome = Checkpoint::open(&path)
                .and_then(|file| LoadConfig::new().plan(&file, &model))
                .and_then(|plan| plan.apply(&mut model));
            // A flipped bit of a value in a container without checksums is a value like any other.
            assert!(outcome.is_ok() || bits(&model) == before, "{form} at {place}");
        }
    }
}

#[test]
fn burnpack_is_read_and_its_damage_found() {
    use burn::store::{BurnpackStore, ModuleSnapshot};
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weights.bpk");
    let source = Small::new(3, 5);
    source.save_into(&mut BurnpackStore::from_file(&path)).expect("saved");
    let mut model = Small::new(3, 5);
    let opened = Checkpoint::open(&path).expect("opened");
    let plan = LoadConfig::new().plan(&opened, &model).expect("a plan");
    assert_eq!(plan.layout(), Layout::Burn);
    plan.apply(&mut model).expect("applied");
    assert_eq!(bits(&model), bits(&source));
    let bytes = std::fs::read(&path).expect("bytes");
    for length in (1..bytes.len()).step_by(53) {
        refused(&bytes[..length], &LoadConfig::new());
    }
}

#[test]
fn headers_that_lie() {
    let config = LoadConfig::new();
    let header = |text: &str, data: usize| {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());
        bytes.extend(vec![0; data]);
        bytes
    };
    for (text, data) in [
        (r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,999]}}"#, 16),
        (r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[8,4]}}"#, 16),
        (r#"{"a":{"dtype":"F32","shape":[400],"data_offsets":[0,16]}}"#, 16),
        (r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,16]}}"#, 16),
        (
            r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#,
            16,
        ),
        (r#"{"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}"#, 4),
        (r#"{"a":{"dtype":"F99","shape":[4],"data_offsets":[0,16]}}"#, 16),
        (r#"{"a":17}"#, 0),
        (r#"{"a":"#, 0),
    ] {
        let error = refused(&header(text, data), &config);
        assert!(matches!(error, LoadError::Damaged { .. }), "{text}: {error}");
    }
    let mut endless = u64::MAX.to_le_bytes().to_vec();
    endless.extend(b"{}");
    assert!(matches!(refused(&endless, &config), LoadError::Damaged { .. }));
    let (_, big) = file(&header("{}", 0));
    drop(big);
}

#[test]
fn an_archive_that_claims_more_than_it_has() {
    use std::io::Write;
    // A storage of four bytes of which a tensor with stride 0 makes two hundred million elements.
    let mut pickle = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(".to_vec();
    pickle.extend(b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ");
    pickle.extend(b"K\x00J\x00\xc2\xeb\x0b\x85K\x00\x85\x89ccollections\nOrderedDict\n)RtRs.");
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut archive = zip::ZipWriter::new(&mut bytes);
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, content) in
        [("a/data.pkl", &pickle[..]), ("a/data/0", &[0, 0, 0x80, 0x3f]), ("a/version", b"3\n")]
    {
        archive.start_file(name, options).expect("an entry");
        archive.write_all(content).expect("written");
    }
    archive.finish().expect("finished");
    let error = refused(&bytes.into_inner(), &LoadConfig::new());
    assert!(matches!(error, LoadError::Expansion { claimed: 800_000_000, .. }), "{error}");
}

#[test]
fn a_pickle_that_unpacks_without_end() {
    use std::io::Write;
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut archive = zip::ZipWriter::new(&mut bytes);
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated);
    archive.start_file("a/data.pkl", options).expect("an entry");
    for _ in 0..101 {
        archive.write_all(&vec![b'N'; 1 << 20]).expect("written");
    }
    archive.finish().expect("finished");
    let bytes = bytes.into_inner();
    assert!(bytes.len() < 1 << 20, "{} bytes", bytes.len());
    assert!(matches!(refused(&bytes, &LoadConfig::new()), LoadError::Damaged { .. }));
}

#[test]
fn another_networks_file_and_a_wholly_wrong_remap() {
    let other =
        safetensors(&[("a.weight", &[4, 4], &[1.0; 16]), ("b.bias", &[2], &[1.0; 2])], Some("pt"));
    let LoadError::Refused { problems } = refused(&other, &LoadConfig::new()) else {
        panic!("not refused")
    };
    assert!(problems.iter().any(|problem| matches!(problem, Problem::Missing { .. })));
    assert!(problems.iter().any(|problem| matches!(problem, Problem::Unexpected { .. })));
    assert!(problems.contains(&Problem::Coverage { coverage: 0.0, floor: 0.9 }));
    // What is only listed does not make it fit.
    let partial = LoadConfig::new().with_partial(true);
    let LoadError::Refused { problems } = refused(&other, &partial) else { panic!("not refused") };
    assert_eq!(problems, [Problem::Coverage { coverage: 0.0, floor: 0.9 }]);
    let remapped = partial.with_rename("", "encoder");
    assert!(matches!(refused(&good(), &remapped), LoadError::Refused { .. }));
    let idle = LoadConfig::new().with_rename("backbone", "");
    let LoadError::Refused { problems } = refused(&good(), &idle) else { panic!("not refused") };
    assert_eq!(problems, [Problem::IdleRule { rule: "`backbone` -> ``".to_owned() }]);
}

#[test]
fn square_matrices_want_a_word_on_their_layout() {
    let square =
        safetensors(&[("weight", &[2, 2], &[1., 2., 3., 4.]), ("bias", &[2], &[0.; 2])], None);
    let (_folder, path) = file(&square);
    let opened = Checkpoint::open(&path).expect("a checkpoint");
    let mut model = LinearConfig::new(2, 2).init(&Device::flex());
    let before = bits(&model);
    assert!(matches!(
        LoadConfig::new().plan(&opened, &model),
        Err(LoadError::UnknownLayout { .. })
    ));
    assert_eq!(bits(&model), before);
    for (layout, want) in [(Layout::PyTorch, [1., 3., 2., 4.]), (Layout::Burn, [1., 2., 3., 4.])] {
        let plan = LoadConfig::new().with_layout(layout).plan(&opened, &model).expect("a plan");
        plan.apply(&mut model).expect("applied");
        assert_eq!(super::values(&model, "weight"), want);
    }
    // A file that says that PyTorch wrote it is not taken for burn's.
    let (_folder, path) =
        file(&safetensors(&[("weight", &[2, 2], &[1.; 4]), ("bias", &[2], &[0.; 2])], Some("pt")));
    let opened = Checkpoint::open(&path).expect("a checkpoint");
    let plan = LoadConfig::new().with_layout(Layout::Burn).plan(&opened, &model);
    assert!(matches!(plan, Err(LoadError::WrongLayout { .. })), "{plan:?}");
    // A matrix in a struct of the user's own is nobody's transpose, and needs no word.
    let (_folder, path) = file(&safetensors(&[("weight", &[2, 2], &[1., 2., 3., 4.])], None));
    let opened = Checkpoint::open(&path).expect("a checkpoint");
    let mut bare = Bare::new([2, 2]);
    LoadConfig::new().plan(&opened, &bare).expect("a plan").apply(&mut bare).expect("applied");
    assert_eq!(super::values(&bare, "weight"), [1., 2., 3., 4.]);
}

#[test]
fn broken_values_are_refused_and_odd_ones_named() {
    let source = Small::new(3, 5);
    let (_folder, path) = saved(&source);
    let bytes = std::fs::read(&path).expect("bytes");
    let opened = Checkpoint::open(&path).expect("a checkpoint");
    let plan = LoadConfig::new().plan(&opened, &source).expect("a plan");
    assert!(
        plan.suspicions().iter().any(|found| found.path == "bn.running_mean"),
        "fresh statistics are named"
    );
    // The variances stand in the file as ones; the last parameter's first value may be anything.
    let with = |old: [f32; 4], new: [f32; 4]| {
        let raw = |values: [f32; 4]| values.map(f32::to_le_bytes).concat();
        let places: Vec<usize> =
            (0..bytes.len() - 16).filter(|at| bytes[*at..at + 16] == raw(old)).collect();
        let mut changed = bytes.clone();
        for at in places {
            changed[at..at + 16].copy_from_slice(&raw(new));
        }
        changed
    };
    let broken = |new: [f32; 4]| refused(&with([1.0; 4], new), &LoadConfig::new()).to_string();
    assert!(broken([1.0, f32::NAN, 1.0, f32::INFINITY]).contains("2 of 4 values are not finite"));
    assert!(broken([1.0, -1.0, 1.0, 1.0]).contains("1 of 4 variances are negative"));
    let (_folder, path) = file(&with([1.0; 4], [1.0, f32::NAN, 1.0, 1.0]));
    let opened = Checkpoint::open(&path).expect("a checkpoint");
    let mut model = Small::new(3, 5);
    let plan = LoadConfig::new().with_broken_values(true).plan(&opened, &model).expect("a plan");
    assert!(plan.suspicions().iter().any(|found| found.reason.contains("not finite")));
    plan.apply(&mut model).expect("wanted");
}

#[test]
fn configurations_that_cannot_be() {
    let (_folder, path) = file(&good());
    let opened = Checkpoint::open(&path).expect("a checkpoint");
    let model = Small::new(3, 5);
    let plan =
        |config: LoadConfig| config.plan(&opened, &model).map(|plan| plan.problems().to_vec());
    for share in [f64::NAN, f64::INFINITY, -0.1, 1.1] {
        assert!(
            matches!(plan(LoadConfig::new().with_min_coverage(share)), Err(LoadError::Config(_))),
            "{share}"
        );
    }
    assert!(matches!(plan(LoadConfig::new().with_rename("a.*", "b")), Err(LoadError::Config(_))));
    for config in [
        LoadConfig::new().with_head(Head::fresh("classifier")),
        LoadConfig::new().with_head(Head::fresh("")),
        LoadConfig::new().with_fresh("fc"),
        LoadConfig::new().with_input_channels("conv1", InputChannels::Sum),
        LoadConfig::new().with_positions("pos", Positions::new(0)),
        LoadConfig::new().with_reshape("fc9"),
        LoadConfig::new().with_name("fc9.weight", "fc1.weight"),
        LoadConfig::new().with_tied("fc1.weight", "fc9.weight"),
    ] {
        let error = plan(config).expect_err("no such path");
        assert!(matches!(error, LoadError::NoSuchPath { .. }), "{error}");
    }
    let error =
        plan(LoadConfig::new().with_name("fc1.weight", "fc1.wieght")).expect_err("no such name");
    assert!(error.to_string().contains("`fc1.weight`"), "{error}");
    for config in [
        LoadConfig::new().with_head(Head::classes("fc2", vec![0, 1, 2, 3, 9])),
        LoadConfig::new().with_head(Head::classes("fc2", Vec::new())),
        LoadConfig::new().with_head(Head::without_first("fc2", 5)),
        LoadConfig::new().with_rows("fc1.weight", "fc1.weight", 2..2),
        LoadConfig::new().with_rows("fc1.weight", "fc1.weight", 0..9),
    ] {
        let problems = plan(config.clone()).expect("a plan");
        assert!(
            problems.iter().any(|found| matches!(found, Problem::Transform { .. })),
            "{config:?}: {problems:?}"
        );
    }
}
