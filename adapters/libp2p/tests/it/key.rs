use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{Arc, Barrier},
    thread,
};

use haggle::{
    key::{KeyFileError, load_or_create, lock},
    libp2p::identity::Keypair,
};

/// A folder of its own that is removed at the end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("haggle-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_key_is_made_once_and_is_private() {
    let folder = Folder::new("key-once");
    let path = folder.0.join("deep/er/node.key");
    let barrier = Arc::new(Barrier::new(8));
    let racers: Vec<_> = (0..8)
        .map(|_| {
            let (path, barrier) = (path.clone(), barrier.clone());
            thread::spawn(move || {
                barrier.wait();
                load_or_create(&path).expect("a key").public()
            })
        })
        .collect();
    let keys: Vec<_> = racers.into_iter().map(|racer| racer.join().expect("no panic")).collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "all that start at once have the same key");
    assert_eq!(load_or_create(&path).expect("the key").public(), keys[0]);
    let mode = fs::metadata(&path).expect("the file").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(fs::read_dir(path.parent().expect("a folder")).expect("a folder").count(), 1, "nothing is left over");
}

#[test]
fn what_is_no_private_key_file_is_refused_and_left_alone() {
    let folder = Folder::new("key-wrong");
    let path = folder.0.join("node.key");
    let refused = |bytes: &[u8], mode: u32| {
        fs::write(&path, bytes).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        let error = load_or_create(&path).expect_err("refused");
        assert_eq!(
            fs::read(&path).ok(),
            (mode != 0).then(|| bytes.to_vec()).or(fs::read(&path).ok()),
            "it is left alone"
        );
        error
    };
    let key = Keypair::generate_ed25519().to_protobuf_encoding().expect("bytes");
    for bytes in [&b""[..], b"hello", &[0; 5_000], &key[..20]] {
        let error = refused(bytes, 0o600);
        assert!(matches!(error, KeyFileError::NotAKey { .. }), "{error}");
    }
    let error = refused(&key, 0o644);
    assert!(error.to_string().contains("chmod 600"), "{error}");
    let error = load_or_create(&folder.0).expect_err("a folder is no key");
    assert!(matches!(error, KeyFileError::NotAKey { .. }), "{error}");
    let error = load_or_create(&path.join("below/a/file")).expect_err("no folder");
    assert!(matches!(error, KeyFileError::NotCreated { .. } | KeyFileError::Unreadable { .. }), "{error}");
}

#[test]
fn a_key_is_for_one_process_and_free_when_that_ends() {
    let folder = Folder::new("key-lock");
    let path = folder.0.join("node.key");
    assert!(matches!(lock(&path), Err(KeyFileError::Unreadable { .. })), "there is none yet");
    load_or_create(&path).expect("a key");
    let held = lock(&path).expect("free");
    let error = lock(&path).expect_err("in use");
    let me = std::process::id();
    assert!(matches!(&error, KeyFileError::InUse { pid: Some(pid), .. } if *pid == me), "{error}");
    assert!(error.to_string().contains(&format!("(pid {me})")), "{error}");
    load_or_create(&path).expect("reading it takes no lock");
    // A name that nobody can read is left out.
    fs::write(path.with_extension("key.pid"), "?").expect("written");
    let error = lock(&path).expect_err("in use");
    assert!(matches!(error, KeyFileError::InUse { pid: None, .. }), "{error}");
    drop(held);
    lock(&path).expect("free again");
}
