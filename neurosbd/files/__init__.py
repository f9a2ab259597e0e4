"""Files of unknown origin read without harm, and files of ours written whole or not at all."""
