"""The dashboard's own web server around Streamlit: who gets in, the sign-in page, downloads."""
