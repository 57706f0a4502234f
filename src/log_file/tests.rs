use super::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

#[test]
fn a_new_log_is_not_for_other_users_to_read_and_an_old_one_keeps_its_mode() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    drop(append_to(&path).unwrap());
    assert_eq!(mode() & !0o640, 0, "{:o}", mode());
    assert_eq!(mode() & 0o600, 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    append_to(&path).unwrap().write_all(b"line\n").unwrap();
    assert_eq!(mode(), 0o604);
    assert_eq!(fs::read_to_string(&path).unwrap(), "line\n");
}

#[test]
fn a_link_is_not_followed_but_its_directory_may_be_one() {
    let directory = tempfile::tempdir().unwrap();
    let (target, link) = (directory.path().join("target"), directory.path().join("link"));
    symlink(&target, &link).unwrap();
    for exists in [false, true] {
        if exists {
            fs::write(&target, "").unwrap();
        }
        let told = append_to(&link).unwrap_err().to_string();
        assert!(told.contains("/link` is a symbolic link, not a regular file; name"), "{told}");
    }
    let folder = directory.path().join("folder");
    symlink(directory.path(), &folder).unwrap();
    append_to(&folder.join("log")).unwrap().write_all(b"line\n").unwrap();
    assert_eq!(fs::read_to_string(directory.path().join("log")).unwrap(), "line\n");
}

#[test]
fn a_fifo_is_refused_and_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert!(append_to(&path).unwrap_err().to_string().contains("is a FIFO"));
    assert!(append_to(Path::new("/dev/null")).is_ok());
}
