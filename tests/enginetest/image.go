package enginetest

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// ImportBusybox makes a runnable image of the machine's busybox under the given reference ("busybox:latest") and returns its id.
func (c *Client) ImportBusybox(t testing.TB, tag string) string {
	t.Helper()
	return c.ImportImage(t, tag, "")
}

// ImportImage is [Client.ImportBusybox] with a file /marker of the given content in the image. Each call makes a new image id: an
// import carries its time.
func (c *Client) ImportImage(t testing.TB, tag, marker string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	id, err := c.Import(ctx, tag, marker)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Import is [Client.ImportImage] for code without a test.
func (c *Client) Import(ctx context.Context, tag, marker string) (string, error) {
	rootfs, err := busyboxTree()
	if err != nil {
		return "", fmt.Errorf("import image %q: %w", tag, err)
	}
	query := url.Values{"fromSrc": {"-"}, "changes": {`CMD ["sh"]`, "ENV PATH=/bin"}}
	repo, version := tag, ""
	if i := strings.LastIndex(tag, ":"); i > strings.LastIndex(tag, "/") {
		repo, version = tag[:i], tag[i+1:]
	}
	if repo != "" {
		query.Set("repo", repo)
		query.Set("tag", version)
	}
	var end bytes.Buffer
	archive := tar.NewWriter(&end)
	err = errors.Join(
		archive.WriteHeader(&tar.Header{Name: "marker", Mode: 0o644, Size: int64(len(marker)), Typeflag: tar.TypeReg}),
		second(io.WriteString(archive, marker)),
		archive.Close(),
	)
	if err != nil {
		return "", err
	}
	body := io.MultiReader(bytes.NewReader(rootfs), &end)
	reply, err := c.API(ctx, http.MethodPost, "/images/create?"+query.Encode(), body)
	if err != nil {
		return "", fmt.Errorf("import image %q: %w", tag, err)
	}
	// The reply is a stream of JSON values; the last status is the id, and an error may come with a status of 200.
	id := ""
	for decoder := json.NewDecoder(bytes.NewReader(reply)); ; {
		var line struct{ Status, Error string }
		if err := decoder.Decode(&line); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return "", fmt.Errorf("import image %q: %w", tag, err)
		}
		if line.Error != "" {
			return "", fmt.Errorf("import image %q: %s", tag, line.Error)
		}
		id = line.Status
	}
	if !strings.HasPrefix(id, "sha256:") {
		return "", fmt.Errorf("import image %q: no id in the reply %q", tag, reply)
	}
	return id, nil
}

func second[T any](_ T, err error) error { return err }

// busyboxTree is a tar archive, without its end mark, of a root file system with nothing but busybox. The tree is made once.
var busyboxTree = sync.OnceValues(func() ([]byte, error) {
	path, err := staticBusybox()
	if err != nil {
		return nil, err
	}
	binary, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	applets, err := exec.Command(path, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list the applets of %s: %w", path, err)
	}
	var tree bytes.Buffer
	archive := tar.NewWriter(&tree)
	file := func(name string, mode int64, content []byte) {
		err = errors.Join(err,
			archive.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(content)), Typeflag: tar.TypeReg}),
			second(archive.Write(content)))
	}
	for _, dir := range []string{"bin/", "dev/", "etc/", "proc/", "root/", "sys/", "tmp/", "var/"} {
		err = errors.Join(err, archive.WriteHeader(&tar.Header{Name: dir, Mode: 0o755, Typeflag: tar.TypeDir}))
	}
	file("bin/busybox", 0o755, binary)
	for applet := range strings.FieldsSeq(string(applets)) {
		if applet != "busybox" {
			err = errors.Join(err, archive.WriteHeader(
				&tar.Header{Name: "bin/" + applet, Linkname: "busybox", Mode: 0o777, Typeflag: tar.TypeSymlink}))
		}
	}
	file("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\n"))
	file("etc/group", 0o644, []byte("root:x:0:\n"))
	err = errors.Join(err, archive.Flush())
	return tree.Bytes(), err
})

// staticBusybox finds a busybox that runs without a library: an image has none.
func staticBusybox() (string, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return "", errors.New("there is no busybox (Debian: busybox-static)")
	}
	binary, err := elf.Open(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	defer binary.Close()
	for _, p := range binary.Progs {
		if p.Type == elf.PT_INTERP {
			return "", fmt.Errorf("%s needs libraries (Debian: busybox-static does not)", path)
		}
	}
	return path, nil
}
