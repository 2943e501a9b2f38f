"""Small volumes in the formats of scanners and archives, all of one phantom."""

import os
import pathlib

import numpy as np

LPS = np.diag([-1.0, -1.0, 1.0])
SPACING = (1.5, 2.0, 5.0)
ORIGIN = (-12.0, 7.0, 30.0)


def phantom(shape=(5, 6, 4), dtype=np.int16):
    """Voxels `[x, y, z]` in RAS order, each different."""
    return np.arange(1, np.prod(shape) + 1, dtype=dtype).reshape(shape)


def ras(spacing=SPACING, origin=ORIGIN):
    """Affine of a volume in RAS order."""
    matrix = np.diag([*spacing, 1.0])
    matrix[:3, 3] = origin
    return matrix


def write_nifti(path, array, affine=None, pixdim=None):
    """Writes a NIfTI file; `pixdim`, three lengths, replaces those that fit the affine."""
    import nibabel

    nibabel.save(nibabel.Nifti1Image(array, ras() if affine is None else affine), path)
    if pixdim is not None:
        raw = bytearray(pathlib.Path(path).read_bytes())
        raw[80:92] = np.array(pixdim, "<f4").tobytes()
        pathlib.Path(path).write_bytes(raw)
    return str(path)


def write_itk(path, array, spacing=SPACING, origin=ORIGIN, names=None):
    """Writes MetaImage or NRRD: LPS axes, so that x and y of the file run against ours."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(array[::-1, ::-1].T)
    first = np.add(origin, np.multiply(spacing, [array.shape[0] - 1, array.shape[1] - 1, 0]))
    image.SetSpacing(spacing)
    image.SetOrigin(LPS @ first)
    for i, (name, value) in enumerate((names or {}).items()):
        image.SetMetaData(f"Segment{i}_Name", name)
        image.SetMetaData(f"Segment{i}_LabelValue", str(value))
    SimpleITK.WriteImage(image, str(path))
    return str(path)


def write_npz(path, array, spacing=SPACING, origin=ORIGIN):
    """Writes the plain format."""
    np.savez(path, array=array, spacing=spacing, origin=origin)
    return str(path)


def write_series(folder, array, uid="1.2.3.1", description="t2_tse_tra", number=1, **changes):
    """Writes a DICOM series, one file per slice `[x, y, z]` or per slice and frame.

    Args:
        folder: Made if it is not there.
        array: Voxels in RAS order.
        uid: Of the series.
        description: Of the series.
        number: Of the series.
        changes: Values of tags, of all files; None removes a tag.
    """
    os.makedirs(folder, exist_ok=True)
    frames = array if array.ndim == 4 else array[..., None]
    files = []
    for t in range(frames.shape[3]):
        for z in range(frames.shape[2]):
            data = _slice_tags(frames.shape, z, uid, description, number)
            data.InstanceNumber = 1 + t * frames.shape[2] + z
            data.SOPInstanceUID = f"{uid}.{data.InstanceNumber}"
            data.PixelData = np.ascontiguousarray(frames[::-1, ::-1, z, t].T).tobytes()
            for name, value in changes.items():
                if value is None:
                    delattr(data, name)
                else:
                    setattr(data, name, value)
            # Names tell nothing of the order.
            path = os.path.join(folder, f"IM{(data.InstanceNumber * 7919) % 1000:03d}_{number}")
            data.save_as(path, enforce_file_format=True)
            files.append(path)
    return files


def write_segmentation(path, masks, names, slices):
    """Writes a binary DICOM segmentation of some slices.

    Args:
        path: File.
        masks: bool `[segments, x, y, slices]` in RAS order.
        names: Label per segment.
        slices: Position of each slice in the phantom.
    """
    import pydicom
    from pydicom.dataset import Dataset
    from pydicom.pixels import pack_bits

    data = _file("1.2.840.10008.5.1.4.1.1.66.4")
    data.Modality, data.SegmentationType = "SEG", "BINARY"
    data.Columns, data.Rows = masks.shape[1:3]
    _pixels(data, 1)
    data.SegmentSequence = [Dataset() for _ in names]
    for i, name in enumerate(names):
        data.SegmentSequence[i].SegmentNumber, data.SegmentSequence[i].SegmentLabel = i + 1, name
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [SPACING[1], SPACING[0]]
    measures.SpacingBetweenSlices = measures.SliceThickness = SPACING[2]
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    data.SharedFunctionalGroupsSequence = [shared]
    groups, pixels = [], []
    for segment in range(len(names)):
        for place, z in enumerate(slices):
            mask = masks[segment, :, :, place]
            if not mask.any():
                continue  # As writers of segmentations do.
            group, position, kind = Dataset(), Dataset(), Dataset()
            position.ImagePositionPatient = _position(masks.shape[1:3], z)
            kind.ReferencedSegmentNumber = segment + 1
            group.PlanePositionSequence = [position]
            group.SegmentIdentificationSequence = [kind]
            groups.append(group)
            pixels.append(mask[::-1, ::-1].T)
    data.PerFrameFunctionalGroupsSequence, data.NumberOfFrames = groups, len(groups)
    data.PixelData = pack_bits(np.stack(pixels).astype(np.uint8).ravel())
    data.SOPInstanceUID = pydicom.uid.generate_uid()
    data.save_as(path, enforce_file_format=True)
    return str(path)


def _file(kind):
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = kind, pydicom.uid.generate_uid()
    data.SeriesInstanceUID, data.StudyInstanceUID = "1.2.3", "1.2"
    return data


def _pixels(data, bits):
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = bits
    data.HighBit, data.PixelRepresentation = bits - 1, 0


def _position(shape, z):
    steps = [shape[0] - 1, shape[1] - 1, z]
    return [float(v) for v in LPS @ np.add(ORIGIN, np.multiply(SPACING, steps))]


def _slice_tags(shape, z, uid, description, number):
    data = _file("1.2.840.10008.5.1.4.1.1.4")
    data.Modality, data.SeriesInstanceUID, data.SeriesDescription = "MR", uid, description
    data.SeriesNumber = number
    data.Columns, data.Rows = shape[:2]
    _pixels(data, 16)
    data.PixelSpacing = [SPACING[1], SPACING[0]]
    data.SliceThickness = 3.0  # Not the distance between slices.
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.ImagePositionPatient = _position(shape, z)
    return data
