//! A correct site in memory: files with entity tags and conditions, over plain HTTP,
//! WebDAV and as much of S3 as is needed.

use std::collections::{BTreeMap, BTreeSet};

use crate::server::{Request, Response};

/// When everything was changed last.
pub(crate) const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
/// The same in seconds.
pub(crate) const MODIFIED_UNIX: i64 = 784_111_777;

/// Files by their decoded path, `/a/b`.
#[derive(Debug, Default)]
pub(crate) struct Site {
    files: BTreeMap<String, File>,
    /// Collections of WebDAV, beside those that files are in.
    directories: BTreeSet<String>,
    versions: u64,
    /// Most keys of a page of S3.
    pub(crate) page: usize,
}

#[derive(Clone, Debug)]
struct File {
    content: Vec<u8>,
    etag: String,
}

impl Site {
    pub(crate) fn of(files: &[(&str, &str)]) -> Site {
        let mut site = Site {
            page: 1000,
            ..Site::default()
        };
        for (path, content) in files {
            site.put(path, content.as_bytes());
        }
        site
    }

    pub(crate) fn put(&mut self, path: &str, content: &[u8]) -> String {
        self.versions += 1;
        let etag = format!("\"v{}\"", self.versions);
        let file = File {
            content: content.to_vec(),
            etag: etag.clone(),
        };
        self.files.insert(path.to_string(), file);
        etag
    }

    pub(crate) fn remove(&mut self, path: &str) {
        self.files.remove(path);
        self.directories.remove(path);
    }

    pub(crate) fn get(&self, path: &str) -> Option<String> {
        let file = self.files.get(path)?;
        Some(String::from_utf8_lossy(&file.content).into_owned())
    }

    pub(crate) fn paths(&self) -> Vec<&str> {
        self.files.keys().map(String::as_str).collect()
    }

    pub(crate) fn make_directory(&mut self, path: &str) {
        self.directories.insert(path.to_string());
    }

    pub(crate) fn is_directory(&self, path: &str) -> bool {
        let below = format!("{}/", path.trim_end_matches('/'));
        let below_any = |other: &String| other.starts_with(&below);
        path.trim_end_matches('/').is_empty()
            || self.directories.contains(path)
            || self.files.keys().any(below_any)
            || self.directories.iter().any(below_any)
    }

    pub(crate) fn answer(&mut self, request: &Request) -> Response {
        let decoded = decode(request.path());
        let path = if decoded == "/" {
            "/"
        } else {
            decoded.trim_end_matches('/')
        }
        .to_string();
        if request.query().contains("list-type=2") {
            return self.list_keys(request);
        }
        match request.method.as_str() {
            "GET" | "HEAD" => self.read(request, &decoded),
            "PUT" => self.write(request, &decoded),
            "DELETE" => self.delete(request, &decoded),
            "PROPFIND" => self.propfind(request, &path),
            "MKCOL" if self.is_directory(&path) || self.files.contains_key(&path) => Response::new(405),
            "MKCOL" if !self.is_directory(parent(&path)) => Response::new(409),
            "MKCOL" => {
                self.make_directory(&path);
                Response::new(201)
            }
            _ => Response::new(501),
        }
    }

    fn read(&self, request: &Request, path: &str) -> Response {
        let Some(file) = self.files.get(path) else {
            return Response::new(404);
        };
        let response = |status| {
            Response::new(status)
                .with("etag", file.etag.as_str())
                .with("last-modified", MODIFIED)
        };
        if request.header("if-none-match") == Some(&file.etag) || request.header("if-modified-since") == Some(MODIFIED)
        {
            return response(304);
        }
        let from = request
            .header("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        match from.filter(|_| request.header("if-range").is_none_or(|etag| etag == file.etag)) {
            Some(from) if from < file.content.len() => {
                let length = file.content.len();
                response(206)
                    .with("content-range", format!("bytes {from}-{}/{length}", length - 1))
                    .body(&file.content[from..])
            }
            Some(_) => Response::new(416),
            None => response(200).body(file.content.clone()),
        }
    }

    fn is_allowed(&self, request: &Request, path: &str) -> bool {
        let there = self.files.get(path).map(|file| file.etag.as_str());
        let matches = request.header("if-match").is_none_or(|etag| there == Some(etag));
        matches && (request.header("if-none-match") != Some("*") || there.is_none())
    }

    fn write(&mut self, request: &Request, path: &str) -> Response {
        if !self.is_allowed(request, path) {
            return Response::new(412);
        }
        let status = if self.files.contains_key(path) { 204 } else { 201 };
        let etag = self.put(path, &request.body);
        Response::new(status).with("etag", etag)
    }

    fn delete(&mut self, request: &Request, path: &str) -> Response {
        if !self.is_allowed(request, path) {
            return Response::new(412);
        }
        let plain = path.trim_end_matches('/');
        if !self.files.contains_key(path) && !self.is_directory(plain) {
            return Response::new(404);
        }
        self.remove(path);
        self.remove(plain);
        Response::new(204)
    }

    fn propfind(&self, request: &Request, path: &str) -> Response {
        let mut members = String::new();
        let mut add = |path: &str| members.push_str(&self.member(path));
        match (self.files.contains_key(path), self.is_directory(path)) {
            (false, false) => return Response::new(404),
            (true, _) => add(path),
            (false, true) => {
                add(path);
                if request.header("depth") == Some("1") {
                    self.children(path).iter().for_each(|child| add(child));
                }
            }
        }
        let body = format!("<?xml version=\"1.0\"?><D:multistatus xmlns:D=\"DAV:\">{members}</D:multistatus>");
        Response::new(207).body(body)
    }

    /// What is directly in a directory.
    fn children(&self, path: &str) -> BTreeSet<String> {
        let below = format!("{}/", path.trim_end_matches('/'));
        let all = self.files.keys().chain(&self.directories);
        let child = |path: &String| {
            let rest = path.strip_prefix(&below).filter(|rest| !rest.is_empty())?;
            Some(format!("{below}{}", rest.split('/').next().unwrap()))
        };
        all.filter_map(child).collect()
    }

    fn member(&self, path: &str) -> String {
        let properties = match self.files.get(path) {
            Some(file) => format!(
                "<D:resourcetype/><D:getcontentlength>{}</D:getcontentlength><D:getetag>{}</D:getetag>\
                 <D:getlastmodified>{MODIFIED}</D:getlastmodified>",
                file.content.len(),
                file.etag
            ),
            None => "<D:resourcetype><D:collection/></D:resourcetype>".to_string(),
        };
        let href = path.replace('%', "%25").replace(' ', "%20");
        response_element(&href, &properties)
    }

    /// ListObjectsV2; the bucket is the first part of the path.
    fn list_keys(&self, request: &Request) -> Response {
        let parameter = |name: &str| {
            let pair = |pair: &str| pair.strip_prefix(name)?.strip_prefix('=').map(decode);
            request.query().split('&').find_map(pair)
        };
        let bucket = format!("{}/", request.path().trim_end_matches('/'));
        let prefix = parameter("prefix").unwrap();
        let after = parameter("continuation-token").unwrap_or_default();
        let most: usize = parameter("max-keys").unwrap().parse().unwrap();
        let mut found: BTreeMap<String, Option<&File>> = BTreeMap::new();
        for (path, file) in &self.files {
            let Some(key) = path.strip_prefix(&bucket).filter(|key| key.starts_with(&prefix)) else {
                continue;
            };
            match key[prefix.len()..].split_once('/') {
                Some((first, _)) => found.insert(format!("{prefix}{first}/"), None),
                None => found.insert(key.to_string(), Some(file)),
            };
        }
        let left: Vec<_> = found.into_iter().filter(|(key, _)| *key > after).collect();
        let page = &left[..left.len().min(most).min(self.page)];
        let mut body = String::from("<ListBucketResult><EncodingType>url</EncodingType>");
        for (key, file) in page {
            let key = key.replace('%', "%25").replace(' ', "+");
            body.push_str(&match file {
                Some(file) => format!(
                    "<Contents><Key>{key}</Key><Size>{}</Size><ETag>{}</ETag>\
                     <LastModified>1994-11-06T08:49:37.000Z</LastModified></Contents>",
                    file.content.len(),
                    file.etag.replace('"', "&quot;")
                ),
                None => format!("<CommonPrefixes><Prefix>{key}</Prefix></CommonPrefixes>"),
            });
        }
        if page.len() < left.len() {
            let next = &page.last().unwrap().0;
            body.push_str(&format!(
                "<IsTruncated>true</IsTruncated><NextContinuationToken>{next}</NextContinuationToken>"
            ));
        }
        body.push_str("</ListBucketResult>");
        Response::new(200).body(body)
    }
}

/// A member of a multistatus.
pub(crate) fn response_element(href: &str, properties: &str) -> String {
    format!(
        "<D:response><D:href>{href}</D:href><D:propstat><D:prop>{properties}</D:prop>\
         <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
    )
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let hex = [rest.next().unwrap(), rest.next().unwrap()];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).unwrap()
}
