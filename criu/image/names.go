package image

import (
	"encoding/binary"
	"fmt"
	"path/filepath"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"google.golang.org/protobuf/proto"

	"github.com/migrate-hpc/migrate/durable"
)

// magicFiles is FILES_MAGIC (criu/include/magic.h).
const magicFiles = 0x56303138

// NameFiles turns files that were saved as external ones, by their key in names,
// into ordinary files with a path in the job, on the mount with the given id (as
// in the job's mountinfo). CRIU then opens them by itself.
func NameFiles(dir string, names map[string]string, mount int32) error {
	return editFiles(dir, func(record []byte) ([]byte, error) { return nameFile(record, names, mount) })
}

// editFiles replaces every record of files.img by what edit makes of it.
func editFiles(dir string, edit func(record []byte) ([]byte, error)) error {
	out := binary.LittleEndian.AppendUint32(nil, magicCommon)
	out = binary.LittleEndian.AppendUint32(out, magicFiles)
	err := eachFile(dir, func(record []byte) error {
		record, err := edit(record)
		out = appendRecord(out, record)
		return err
	})
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, filesName), out, filePerm)
}

// eachFile shows every record of files.img to look, up to the first error.
func eachFile(dir string, look func(record []byte) error) error {
	data, err := ReadBounded(filepath.Join(dir, filesName), maxFilesImage)
	if err != nil {
		return err
	}
	rest, err := cutMagic(data, magicFiles)
	for err == nil && len(rest) > 0 {
		var record []byte
		if record, rest, err = cutRecord(rest); err == nil {
			err = look(record)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", filesName, err)
	}
	return nil
}

const filesName = "files.img"

// maxFilesImage bounds files.img, in bytes.
const maxFilesImage = 256 << 20

func nameFile(record []byte, names map[string]string, mount int32) ([]byte, error) {
	var e fdinfo.FileEntry
	if err := proto.Unmarshal(record, &e); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	path, ok := names[e.GetReg().GetName()]
	if !ok || !e.GetReg().GetExt() {
		return record, nil
	}
	e.Reg.Name = proto.String(path)
	e.Reg.Ext = nil
	e.Reg.MntId = proto.Int32(mount)
	return proto.Marshal(&e)
}
