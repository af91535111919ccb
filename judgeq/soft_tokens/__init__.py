"""The trained artefact: its tensors, adapters and budget profile, as files and on the Hub."""
