//! Writes archives by hand, most of them deliberately wrong: tar blocks, zstd frames and JSON
//! without the crate's own writer, so that errors in its writer and reader can't cancel out.
//!
//! A [`Case`] is the small valid archive and the changes to it at each step: config, manifest,
//! index, list of files, tar, frames, file.

use std::hash::Hasher;

use qyvol_types::Digest;

/// An empty component: magic, version 13, layer 1.
pub const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
pub const ASSETS: &str = "application/vnd.qyvol.assets.v1.tar+zstd";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const CHUNK_SIZE: usize = 2 << 20;

/// A component of so many bytes: one custom section of zeros. At least 2 MiB.
pub fn component(len: usize) -> Vec<u8> {
    let section = len - COMPONENT.len() - 5;
    let mut out = COMPONENT.to_vec();
    out.push(0);
    // Four groups of seven bits hold any size up to 256 MiB.
    out.extend((0..4).map(|n| (section >> (7 * n)) as u8 & 127 | if n < 3 { 128 } else { 0 }));
    out.extend([1, b'z']);
    out.resize(len, 0);
    out
}

/// A step's change.
pub type Edit<T> = Box<dyn Fn(T) -> T>;
/// A frame with its decoded size.
pub type Frame = (Vec<u8>, u32);

pub struct Case {
    pub name: &'static str,
    /// Images that follow this one.
    pub others: Vec<Case>,
    pub component: Vec<u8>,
    /// The tar of the assets, if there are any; then their number and bytes.
    pub assets: Option<(Vec<u8>, u64, u64)>,
    /// The assets' tar as the layer has it.
    pub layer: Edit<Vec<u8>>,
    pub config: Edit<String>,
    pub manifest: Edit<String>,
    /// Bundles, each with its manifest; sorted by digest afterwards.
    pub signatures: Vec<String>,
    pub referrer: Edit<String>,
    pub index: Edit<String>,
    /// Files of the head: path and content.
    pub files: Edit<Vec<(String, Vec<u8>)>>,
    /// The head's tar.
    pub head: Edit<Vec<u8>>,
    /// Entries after the head: complete here, cut into frames afterwards.
    pub content: Edit<Vec<Vec<u8>>>,
    pub end: Vec<u8>,
    pub frames: Edit<Vec<Frame>>,
    pub table: Edit<Vec<u8>>,
    pub file: Edit<Vec<u8>>,
}

impl Default for Case {
    fn default() -> Case {
        Case {
            name: "a",
            others: Vec::new(),
            component: COMPONENT.to_vec(),
            assets: None,
            layer: Box::new(|tar| tar.chunks(CHUNK_SIZE).flat_map(frame).collect()),
            config: Box::new(|x| x),
            manifest: Box::new(|x| x),
            signatures: Vec::new(),
            referrer: Box::new(|x| x),
            index: Box::new(|x| x),
            files: Box::new(|x| x),
            head: Box::new(|x| x),
            content: Box::new(|x| x),
            end: vec![0; 1024],
            frames: Box::new(|x| x),
            table: Box::new(|x| x),
            file: Box::new(|x| x),
        }
    }
}

pub fn descriptor(kind: &str, bytes: &[u8]) -> String {
    format!(
        r#"{{"mediaType":"{kind}","digest":"{}","size":{}}}"#,
        Digest::of(bytes),
        bytes.len()
    )
}

pub fn blob(bytes: &[u8]) -> (String, Vec<u8>) {
    (format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes.to_vec())
}

/// A whole tar entry. A path that doesn't fit its field is split at the last
/// slash that leaves both halves short enough, or carried by a PAX record.
pub fn entry(path: &str, bytes: &[u8]) -> Vec<u8> {
    let (name, size) = (path.as_bytes(), bytes.len() as u64);
    let cut = path
        .bytes()
        .take(156)
        .collect::<Vec<_>>()
        .iter()
        .rposition(|b| *b == b'/');
    let mut out = match cut.filter(|at| *at > 0 && name.len() - at <= 101) {
        _ if name.len() <= 100 => header(name, size, b'0'),
        Some(at) => patch(header(&name[at + 1..], size, b'0'), 345, &name[..at]),
        None => {
            let mut len = name.len() + " path=\n".len();
            len += (len + len.to_string().len()).to_string().len();
            let record = [format!("{len} path=").as_bytes(), name, b"\n"].concat();
            pax(&record, &name[..100], size)
        }
    };
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

/// A PAX header with this body, then a file's header.
pub fn pax(body: &[u8], path: &[u8], size: u64) -> Vec<u8> {
    let mut out = header(b"././@PaxHeader", body.len() as u64, b'x');
    out.extend_from_slice(body);
    out.resize(out.len().next_multiple_of(512), 0);
    out.extend(header(path, size, b'0'));
    out
}

/// A ustar header as the format has it.
pub fn header(path: &[u8], size: u64, kind: u8) -> Vec<u8> {
    let mut h = vec![0; 512];
    h[..path.len()].copy_from_slice(path);
    h[100..107].copy_from_slice(b"0000644");
    h[108..115].copy_from_slice(b"0000000");
    h[116..123].copy_from_slice(b"0000000");
    h[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    h[136..147].copy_from_slice(b"00000000000");
    h[156] = kind;
    h[257..265].copy_from_slice(b"ustar\x0000");
    sum(&mut h);
    h
}

/// Changes bytes of a header and corrects its checksum.
pub fn patch(mut header: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    header[at..at + bytes.len()].copy_from_slice(bytes);
    sum(&mut header[..512]);
    header
}

fn sum(h: &mut [u8]) {
    h[148..156].copy_from_slice(b"        ");
    let sum: u32 = h.iter().map(|b| u32::from(*b)).sum();
    h[148..156].copy_from_slice(format!("{sum:07o}\0").as_bytes());
}

/// A tar of files, ended.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out: Vec<u8> = files.iter().flat_map(|(p, b)| entry(p, b)).collect();
    out.resize(out.len() + 1024, 0);
    out
}

/// One zstd frame with content size and checksum.
pub fn frame(data: &[u8]) -> Vec<u8> {
    let mut compressor = zstd::bulk::Compressor::new(3).unwrap();
    compressor
        .set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))
        .unwrap();
    compressor.compress(data).unwrap()
}

/// A frame's content.
pub fn decoded(frame: &[u8]) -> Vec<u8> {
    zstd::bulk::decompress(frame, 1 << 20).unwrap()
}

/// A frame of raw blocks whose header is the caller's own.
pub fn raw_frame(descriptor: u8, rest: &[u8], data: &[u8], checksum: bool) -> Vec<u8> {
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, descriptor];
    out.extend_from_slice(rest);
    let mut blocks = data.chunks(128 << 10).peekable();
    while let Some(block) = blocks.next() {
        let last = u32::from(blocks.peek().is_none());
        out.extend_from_slice(&(last | (block.len() as u32) << 3).to_le_bytes()[..3]);
        out.extend_from_slice(block);
    }
    if checksum {
        let mut hasher = twox_hash::XxHash64::with_seed(0);
        hasher.write(data);
        out.extend_from_slice(&(hasher.finish() as u32).to_le_bytes());
    }
    out
}

/// A skippable frame.
pub fn skippable(bytes: &[u8]) -> Vec<u8> {
    let mut out = 0x184d_2a50u32.to_le_bytes().to_vec();
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
    out
}

fn seek_table(frames: &[Frame]) -> Vec<u8> {
    let mut body = Vec::new();
    for (bytes, decoded) in frames {
        body.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        body.extend_from_slice(&decoded.to_le_bytes());
    }
    body.extend_from_slice(&(frames.len() as u32).to_le_bytes());
    body.push(0);
    body.extend_from_slice(&0x8f92_eab1u32.to_le_bytes());
    let mut out = 0x184d_2a5eu32.to_le_bytes().to_vec();
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&body);
    out
}

/// What an image adds to an archive.
struct Parts {
    listed: String,
    files: Vec<(String, Vec<u8>)>,
    content: Vec<(String, Vec<u8>)>,
}

impl Case {
    fn parts(&self) -> Parts {
        let layer = self.assets.as_ref().map(|(tar, _, _)| (self.layer)(tar.clone()));
        let mut digests = format!("\"{}\"", Digest::of(&self.component));
        let mut layers = descriptor("application/wasm", &self.component);
        let mut assets = String::new();
        if let (Some(layer), Some((tar, files, bytes))) = (&layer, &self.assets) {
            digests += &format!(",\"{}\"", Digest::of(layer));
            layers += &format!(",{}", descriptor(ASSETS, layer));
            assets = format!(
                r#","assets":{{"diffID":"{}","files":{files},"bytes":{bytes}}}"#,
                Digest::of(tar)
            );
        }
        let config = (self.config)(format!(
            concat!(
                r#"{{"created":"1970-01-01T00:00:00Z","architecture":"wasm","os":"wasip2","layerDigests":[{}],"#,
                r#""component":{{"imports":[],"exports":[],"target":null}},"qyv":{{"version":1,"app":{{"name":"{}","#,
                r#""version":"1.0.0","entrypoint":"a.wasm","runtime":"wasi","type":"cli","permissions":"#,
                r#"{{"fs":"none","net":false,"exec":false,"gfx":false}},"fs":{{"type":"memfs","cache":false}},"#,
                r#""assets_root":"/assets","env":{{}},"args":[],"resources":{{}}}}{}}}}}"#
            ),
            digests, self.name, assets
        ));
        let manifest = (self.manifest)(format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{layers}]}}"#,
            descriptor(CONFIG, config.as_bytes())
        ));
        let subject = descriptor(MANIFEST, manifest.as_bytes());
        let mut referrers: Vec<(String, &String)> = self
            .signatures
            .iter()
            .map(|bundle| {
                let text = format!(
                    concat!(
                        r#"{{"schemaVersion":2,"mediaType":"{}","artifactType":"{}","config":{},"#,
                        r#""layers":[{}],"subject":{},"annotations":{{"dev.sigstore.bundle.content":"dsse-envelope","#,
                        r#""dev.sigstore.bundle.predicateType":"https://qyvol.dev/release/v1"}}}}"#
                    ),
                    MANIFEST,
                    BUNDLE,
                    descriptor("application/vnd.oci.empty.v1+json", b"{}"),
                    descriptor(BUNDLE, bundle.as_bytes()),
                    subject
                );
                ((self.referrer)(text), bundle)
            })
            .collect();
        referrers.sort_by_key(|(text, _)| Digest::of(text.as_bytes()));
        let open = |d: &str| d.strip_suffix('}').unwrap().to_string();
        let mut listed = format!(
            r#"{},"annotations":{{"org.opencontainers.image.ref.name":"{}:1.0.0"}}}}"#,
            open(&subject),
            self.name
        );
        let mut files = vec![blob(manifest.as_bytes()), blob(config.as_bytes())];
        for (text, bundle) in &referrers {
            let d = descriptor(MANIFEST, text.as_bytes());
            listed += &format!(r#",{},"artifactType":"{BUNDLE}"}}"#, open(&d));
            files.push(blob(text.as_bytes()));
            files.push(blob(b"{}"));
            files.push(blob(bundle.as_bytes()));
        }
        let mut content = vec![blob(&self.component)];
        content.extend(layer.as_deref().map(blob));
        Parts { listed, files, content }
    }

    /// The archive's bytes. Of `others` only the images count.
    pub fn build(&self) -> Vec<u8> {
        let mut listed = Vec::new();
        let mut files = vec![("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
        let mut content = Vec::new();
        for parts in std::iter::once(self).chain(&self.others).map(Case::parts) {
            listed.push(parts.listed);
            files.extend(parts.files);
            content.extend(parts.content);
        }
        let index = (self.index)(format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{}]}}"#,
            listed.join(",")
        ));
        files.insert(1, ("index.json".into(), index.into_bytes()));
        once_each(&mut files);
        once_each(&mut content);
        let head = (self.files)(files).iter().flat_map(|(p, b)| entry(p, b)).collect();
        let head = (self.head)(head);
        let content = (self.content)(content.iter().map(|(p, b)| entry(p, b)).collect());
        let mut frames = vec![(frame(&head), head.len() as u32)];
        for part in content.iter().flat_map(|entry| entry.chunks(CHUNK_SIZE)) {
            frames.push((frame(part), part.len() as u32));
        }
        frames.push((frame(&self.end), self.end.len() as u32));
        let frames = (self.frames)(frames);
        let table = (self.table)(seek_table(&frames));
        let mut file: Vec<u8> = frames.into_iter().flat_map(|(bytes, _)| bytes).collect();
        file.extend_from_slice(&table);
        (self.file)(file)
    }
}

/// A blob that several images need is placed where it is needed first.
fn once_each(files: &mut Vec<(String, Vec<u8>)>) {
    let mut seen = std::collections::HashSet::new();
    files.retain(|(path, _)| seen.insert(path.clone()));
}
