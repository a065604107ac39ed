//! Archives: what opens, passes its check and is accepted holds an image of the corpus.

use std::cell::RefCell;
use std::fs;

use qyvol_image::Archive;
use qyvol_store::NoopReporter;
use qyvol_types::ImageConfig;

use crate::Outcome;
use crate::archive::{Case, Edit, Frame};
use crate::bundles::{judge, some};
use crate::corpus::{Corpus, Image};
use crate::mutation::bytes;
use crate::random::Random;

thread_local! {
    static FILE: RefCell<Option<tempfile::NamedTempFile>> = const { RefCell::new(None) };
}

pub fn case(corpus: &Corpus, random: &mut Random) -> Outcome {
    let mut case = of(random.below(corpus.images.len()), corpus, random);
    if random.once_in(4) {
        case.others.push(of(random.below(corpus.images.len()), corpus, random));
    }
    for _ in 0..random.below(4) / 2 {
        alter(&mut case, random);
    }
    let file = case.build();
    let text = random.pick(&corpus.policies);
    Outcome {
        input: format!("{text}\n{} bytes: {file:02x?}", file.len()),
        accepted: FILE.with_borrow_mut(|temporary| {
            let temporary = temporary.get_or_insert_with(|| tempfile::NamedTempFile::new().unwrap());
            fs::write(temporary.path(), &file).unwrap();
            open(corpus, text, temporary.path())
        }),
    }
}

fn of(at: usize, corpus: &Corpus, random: &mut Random) -> Case {
    let image = &corpus.images[at];
    let bundles = (0..random.below(5)).map(|_| match random.below(3) {
        0 => some(corpus, at, random),
        _ => corpus.bundle(at, random).to_string().into_bytes(),
    });
    Case {
        name: image.name,
        component: image.component.clone(),
        signatures: bundles.filter_map(|bundle| String::from_utf8(bundle).ok()).collect(),
        ..Case::default()
    }
}

/// Alters an archive at one of the steps of its making.
fn alter(case: &mut Case, random: &mut Random) {
    let mut own = Random::new(random.next(), 0);
    let seed = random.next();
    let text = move || -> Edit<String> {
        Box::new(move |text: String| {
            let mut out = text.clone().into_bytes();
            bytes(&mut out, text.as_bytes(), &mut Random::new(seed, 1));
            String::from_utf8(out).unwrap_or(text)
        })
    };
    let raw = move || -> Edit<Vec<u8>> {
        Box::new(move |mut out: Vec<u8>| {
            let donor = out.clone();
            bytes(&mut out, &donor, &mut Random::new(seed, 2));
            out
        })
    };
    match own.below(10) {
        0 => case.config = text(),
        1 => case.manifest = text(),
        2 => case.referrer = text(),
        3 => case.index = text(),
        4 => case.head = raw(),
        5 => case.table = raw(),
        6 => {
            case.files = Box::new(move |mut files: Vec<(String, Vec<u8>)>| {
                let mut random = Random::new(seed, 3);
                let (one, other) = (random.below(files.len()), random.below(files.len()));
                match random.below(4) {
                    0 => drop(files.remove(one)),
                    1 => files.swap(one, other),
                    2 => files.push(files[one].clone()),
                    _ => files[one].1 = files[other].1.clone(),
                }
                files
            });
        }
        7 => {
            case.content = Box::new(move |mut content: Vec<Vec<u8>>| {
                let mut random = Random::new(seed, 4);
                let at = random.below(content.len());
                let donor = content[0].clone();
                bytes(&mut content[at], &donor, &mut random);
                content
            });
        }
        8 => {
            case.frames = Box::new(move |mut frames: Vec<Frame>| {
                let mut random = Random::new(seed, 5);
                let (one, other) = (random.below(frames.len()), random.below(frames.len()));
                match random.below(4) {
                    0 => drop(frames.remove(one)),
                    1 => frames.swap(one, other),
                    2 => frames.insert(one, frames[other].clone()),
                    _ => frames[one].1 = frames[one].1.wrapping_add(1 << random.below(32)),
                }
                frames
            });
        }
        _ => case.file = raw(),
    }
}

/// Takes an archive as `verify` does: whether any image in it is accepted.
fn open(corpus: &Corpus, text: &str, path: &std::path::Path) -> Result<bool, String> {
    let Ok(archive) = Archive::open(path) else {
        return Ok(false);
    };
    if archive.check_content(&NoopReporter).is_err() {
        return Ok(false);
    }
    let mut any = false;
    for image in archive.images() {
        let Ok(config) = ImageConfig::parse(&image.config) else {
            continue;
        };
        let own = corpus.images.iter().find(|own| own.descriptor == image.descriptor());
        let given: Vec<Vec<u8>> = image
            .signatures
            .iter()
            .map(|signature| signature.bundle.clone())
            .collect();
        let here = Image {
            name: own.map_or("a", |own| own.name),
            component: Vec::new(),
            descriptor: image.descriptor(),
        };
        // Of an image that is not of the corpus nothing can be accepted: nobody signed it.
        let accepted = judge(corpus, text, &here, &given)?;
        if accepted && own.is_none_or(|own| config.qyv.app.name != own.name) {
            return Err(format!("{} was accepted", image.descriptor().digest));
        }
        any |= accepted;
    }
    Ok(any)
}
